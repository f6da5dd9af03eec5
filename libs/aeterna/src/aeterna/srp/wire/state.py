"""State on the wire: a manifest, then the values. A value is decoded when the application reads its key.

Reading state cannot execute code: a value is JSON or bytes.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from aeterna.srp.wire.messages import INTEGER_MAX, parse_json
from aeterna.table.reasons import Breach, Reason

Readable = bytes | bytearray | memoryview
MANIFEST_MAX = 64 * 1024 * 1024
JSON = "json"
BYTES = "bytes"


@dataclass(frozen=True, slots=True)
class Packed:
    """One part: the manifest and the values that follow it, not yet joined, so that large ones are not copied."""

    manifest: bytes
    values: tuple[Readable, ...]

    @property
    def size(self) -> int:
        return len(self.manifest) + sum(memoryview(value).nbytes for value in self.values)

    def pieces(self) -> Iterator[Readable]:
        yield self.manifest
        yield from self.values


def pack(values: Mapping[str, Any], drop: Iterable[str] = ()) -> Packed:
    """Pack `values` into one part. Each value is bytes or can be encoded as JSON; otherwise TypeError."""
    entries: dict[str, tuple[int, int, str]] = {}
    pieces: list[Readable] = []
    offset = 0
    for key, value in values.items():
        if not isinstance(key, str):
            raise TypeError(f"state keys are strings, not {type(key).__name__}")
        if isinstance(value, bytes | bytearray | memoryview):
            codec, piece = BYTES, memoryview(value).cast("B")
        else:
            codec, piece = JSON, memoryview(json.dumps(value, separators=(",", ":"), allow_nan=False).encode())
        entries[key] = (offset, piece.nbytes, codec)
        pieces.append(piece)
        offset += piece.nbytes
    manifest = json.dumps({"set": entries, "drop": sorted(set(drop))}, separators=(",", ":")).encode()
    return Packed(manifest, tuple(pieces))


@dataclass(frozen=True, slots=True)
class _Entry:
    data: memoryview
    codec: str


class State(MutableMapping[str, Any]):
    """The state of a predecessor. A JSON value is decoded when its key is first read, and kept; a value of
    bytes is copied by `state[key]` and not copied by `state.buffer(key)`. Changes stay in this process."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._decoded: dict[str, Any] = {}

    def add(self, part: Readable, manifest_size: int) -> None:
        """Apply `part` to this state. If it is not a valid part, raise Breach(corrupt) and change nothing."""
        view = memoryview(part).toreadonly()
        if not 2 <= manifest_size <= min(view.nbytes, MANIFEST_MAX):
            raise Breach(Reason.CORRUPT, f"a manifest of {manifest_size} bytes in a part of {view.nbytes}")
        manifest = parse_json(view[:manifest_size])
        values = view[manifest_size:]
        if not isinstance(manifest, dict):
            raise Breach(Reason.CORRUPT, "the manifest is not an object")
        entries, drop = manifest.get("set", {}), manifest.get("drop", [])
        if not isinstance(entries, dict) or not isinstance(drop, list) or not all(isinstance(key, str) for key in drop):
            raise Breach(Reason.CORRUPT, "the manifest has another shape")
        found = {key: _entry(key, where, values) for key, where in entries.items()}
        for key in drop:
            self._entries.pop(key, None)
            self._decoded.pop(key, None)
        for key, entry in found.items():
            self._entries[key] = entry
            self._decoded.pop(key, None)

    def buffer(self, key: str) -> memoryview:
        """The bytes of a value as they came, read-only, without a copy."""
        return self._entries[key].data

    def __getitem__(self, key: str) -> Any:
        if key in self._decoded:
            return self._decoded[key]
        entry = self._entries[key]
        if entry.codec == BYTES:
            return bytes(entry.data)
        value = self._decoded[key] = parse_json(entry.data)
        return value

    def __setitem__(self, key: str, value: Any) -> None:
        self._entries.pop(key, None)
        self._decoded[key] = value

    def __delitem__(self, key: str) -> None:
        known = key in self
        self._entries.pop(key, None)
        self._decoded.pop(key, None)
        if not known:
            raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter({**self._entries, **self._decoded})

    def __len__(self) -> int:
        return len(self._entries.keys() | self._decoded.keys())

    def __contains__(self, key: object) -> bool:
        return key in self._entries or key in self._decoded  # Mapping.__contains__ would decode the value

    def is_json(self, key: str) -> bool:
        return self._entries[key].codec == JSON

    def __repr__(self) -> str:
        return f"State({len(self)} keys, {len(self._decoded)} decoded)"


def _entry(key: str, where: object, values: memoryview) -> _Entry:
    match where:
        case [int(offset), int(size), "json" | "bytes" as codec] if (
            0 <= offset <= INTEGER_MAX and size >= 0 and offset + size <= values.nbytes
        ):
            return _Entry(values[offset : offset + size], codec)
    raise Breach(Reason.CORRUPT, f"the manifest places {key[:80]!r} outside its part")


def encode_delta(packed: Packed) -> bytes:
    """The payload of DELTA: size of the manifest, manifest, values."""
    return b"".join((len(packed.manifest).to_bytes(4, "big"), *packed.pieces()))


def apply_delta(state: State, payload: bytes) -> None:
    if len(payload) < 4:
        raise Breach(Reason.CORRUPT, "a delta without a manifest")
    state.add(memoryview(payload)[4:], int.from_bytes(payload[:4], "big"))
