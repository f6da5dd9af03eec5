"""What services declare: reasons, settings and metrics, found by importing every module there is."""

from __future__ import annotations

import importlib
import pkgutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from aetheris_chassis import metrics
from aetheris_chassis.settings import ServiceSettings
from aetheris_chassis.status import GRPC
from aetheris_kernel.errors import Refusal
from aetheris_proto.common.v1.error_reason_pb2 import ErrorReason
from pydantic_settings import BaseSettings

ROOT = Path(__file__).parents[2]
PACKAGES = sorted(
    folder.name
    for folder in [*ROOT.glob("services/*/src/*"), *ROOT.glob("libs/*/src/*")]
    if (folder / "__init__.py").exists() and folder.name not in ("aetheris_proto", "aeterna")
)
SERVICES = [name for name in PACKAGES if (ROOT / "services" / name.removeprefix("aetheris_")).is_dir()]


@pytest.fixture(scope="module", autouse=True)
def everything_imported():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for package in PACKAGES:
            for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
                if module.name.rpartition(".")[2] != "__main__" and not optional(module.name):
                    importlib.import_module(module.name)


def optional(module: str) -> bool:
    """Integrations import what only their users have."""
    return ".integrations." in module


T = TypeVar("T")


def below(kind: type[T]) -> Iterator[type[T]]:
    """Our own subclasses, at any depth; not what tests or libraries made."""
    for sub in kind.__subclasses__():
        if sub.__module__.partition(".")[0] in PACKAGES:
            yield sub
        yield from below(sub)


def test_every_reason_of_a_refusal_is_in_the_contract():
    known = set(ErrorReason.keys())
    unknown = {sub.__qualname__: sub.reason for sub in below(Refusal) if f"ERROR_REASON_{sub.reason}" not in known}

    assert unknown == {}


def test_every_refusal_refines_exactly_one_kind():
    kinds = {sub: [kind for kind in GRPC if issubclass(sub, kind)] for sub in below(Refusal)}

    assert {sub.__qualname__: len(of) for sub, of in kinds.items() if len(of) != 1} == {}


def test_every_setting_says_what_it_is():
    unsaid = [
        f"{settings.__module__}.{name}"
        for settings in below(BaseSettings)
        for name, field in settings.model_fields.items()
        if not (field.description or "").endswith(".")
    ]

    assert unsaid == []


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_is_told_by_settings_of_its_own(service):
    settings = importlib.import_module(f"{service}.settings").Settings

    assert issubclass(settings, ServiceSettings)
    assert settings.model_config.get("env_prefix") == "AETHERIS_"
    assert settings.model_fields["listen"].default


def test_every_metric_is_named_and_explained():
    defined = metrics.defined()

    assert defined
    assert {name for name, says in defined.items() if not says.endswith(".")} == set()


def test_every_key_of_the_values_is_documented_above_it() -> None:
    lines = (ROOT / "helm" / "aetheris" / "values.yaml").read_text().splitlines()
    within_resources = False
    for number, line in enumerate(lines):
        text = line.strip()
        within_resources = text == "resources:" or (within_resources and line.startswith("    "))
        is_key = not text.startswith(("#", "-")) and ":" in text
        if is_key and (text == "resources:" or not within_resources):
            assert lines[number - 1].strip().startswith("#"), f"values.yaml:{number + 1} {text}"
