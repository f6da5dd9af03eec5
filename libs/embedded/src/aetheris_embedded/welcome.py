"""The message once all services are up: the addresses, and what to type next."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import grpc
from aetheris_chassis.client import open_channel
from aetheris_chassis.status import is_away
from aetheris_proto.scheduler.v1 import scheduler_pb2 as pb
from aetheris_proto.scheduler.v1 import scheduler_pb2_grpc as rpc

from aetheris_embedded.options import Options

_LOOK_S = 0.05


async def agents_at_work(scheduler_address: str, *, sessions: int) -> list[str]:
    """The agents of all connected runners, once there are `sessions` of them."""
    async with open_channel(scheduler_address) as channel:
        stub = rpc.SchedulerStub(channel)
        while True:
            try:
                answer = await stub.Runners(pb.RunnersRequest())
            except grpc.aio.AioRpcError as error:
                if not is_away(error):
                    raise
            else:
                if len(answer.runners) >= sessions:
                    return sorted({agent for runner in answer.runners for agent in runner.agents})
            await asyncio.sleep(_LOOK_S)


def welcome(options: Options, agents: Sequence[str]) -> str:
    rest = f"http://{options.http_listen}"
    example = next((agent for agent in agents if agent != "default"), "default")
    where = f"in {options.runners} processes" if options.runners else "in this process"
    return f"""\
Aetheris is running; Ctrl-C stops it.

  REST      {rest}/api/health
  API docs  {rest}/docs
  traces    {rest}/api/jobs/<job id>/trace/page
  gRPC      {options.grpc_listen}
  agents    {", ".join(agents)} ({where})
  data      {options.data_dir}

Try it:
  curl -X POST {rest}/api/agents/{example}/message -H 'Content-Type: application/json' -d '{{"content": "hello"}}'
"""
