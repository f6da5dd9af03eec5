"""Settings of the embedded Aetheris itself. Alone, because it is the only reader of the environment here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="AETHERIS_", frozen=True, extra="ignore")

    database_url: str = Field("", description="A PostgreSQL to use in place of the bundled one.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "warning", description="The least that is logged; info has one line for each request."
    )
