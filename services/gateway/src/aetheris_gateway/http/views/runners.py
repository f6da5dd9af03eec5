"""Connected runners, and the agents that they offer, in the shapes of REST."""

from __future__ import annotations

from collections.abc import Sequence

from aetheris_api import runners as shapes
from aetheris_proto.gateway.v1 import gateway_pb2 as pb
from aetheris_proto.scheduler.v1 import scheduler_pb2 as scheduler_pb

from aetheris_gateway.http.views.fields import time_of


def runner_page(page: pb.ListRunnersResponse) -> shapes.RunnerPage:
    return shapes.RunnerPage(
        runners=[
            shapes.Runner(
                session_id=runner.session_id,
                runner_id=runner.runner_id,
                agents=list(runner.agents),
                capacity=runner.capacity,
                held=runner.held,
                lease_until=time_of(runner, "lease_deadline"),
                draining=runner.draining,
                versions={offer.agent: offer.version for offer in runner.offers},
            )
            for runner in page.runners
        ],
        next_cursor=page.next_page_token or None,
    )


def deployment_page(page: pb.ListDeploymentsResponse) -> shapes.DeploymentPage:
    return shapes.DeploymentPage(
        deployments=[
            shapes.Deployment(
                agent=found.agent,
                version=found.version,
                runners=found.runners,
                open_jobs=found.open_jobs,
                wanted_by_jobs=found.wanted_by_jobs,
            )
            for found in page.deployments
        ],
        next_cursor=page.next_page_token or None,
    )


def agent_list(runners: Sequence[scheduler_pb.Runner]) -> shapes.AgentList:
    names = sorted({name for runner in runners for name in runner.agents})
    offers = {name: [runner for runner in runners if name in runner.agents] for name in names}
    return shapes.AgentList(
        agents=[
            shapes.Agent(
                id=name,
                runners=len(offering),
                capacity=sum(runner.capacity for runner in offering),
                held=sum(runner.held for runner in offering),
            )
            for name, offering in offers.items()
        ]
    )
