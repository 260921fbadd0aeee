"""Every setting, once."""

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from vzero_server.model.weights_source import Source, WeightsError

MiB = 1 << 20
PROFILES = Path(__file__).parent / "profiles"
"""Folder of the profiles that come with the server."""
Positive = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0)]


def profile_file(name: str) -> Path:
    """The TOML file of a profile: one that comes with the server, or a file.

    Raises:
        FileNotFoundError: There is none of that name.
    """
    packaged = PROFILES / f"{name}.toml"
    if packaged.parent == PROFILES and packaged.is_file():
        return packaged
    path = Path(name).expanduser()
    if not path.is_file():
        known = ", ".join(sorted(one.stem for one in PROFILES.glob("*.toml")))
        raise FileNotFoundError(2, f"neither a profile ({known}) nor a file", name)
    return path


class Settings(BaseSettings):
    """Settings of the server: flags first, then ``VZERO_*``, then a TOML file."""

    model_config = SettingsConfigDict(env_prefix="VZERO_", extra="forbid")

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        50051, description="Port to listen on; 0 takes a free one."
    )
    admin_host: str = Field("127.0.0.1", description="Address of the admin port.")
    admin_port: Annotated[int, Field(ge=0, le=65535)] | None = Field(
        None,
        description="Port of metrics and probes over HTTP; 0 takes a free one, unset: none.",
    )
    data_dir: Path = Field(Path("vzero-data"), description="Folder of the durable log.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe log line to print."
    )
    trace_endpoint: str | None = Field(
        None,
        description="URL of an OpenTelemetry collector (OTLP over gRPC) to send traces to; "
        "unset: none.",
    )

    profile: str = Field(
        "compact",
        description="Settings that go together: 'compact', 'paper', or a TOML file. Every other "
        "way to give a setting wins over it.",
    )
    backbone: str = Field(
        "packaged", description="'packaged' (MiniLM), a folder, or a hub name[@revision]."
    )
    adapter: str = Field(
        "none",
        description="Residual Query Adapter on the backbone's token states: 'none', a file, or "
        "owner/name/file[@revision] of a hub, with #sha256 or without.",
    )
    tabpfn: str = Field(
        "none", description="TabPFN head on the adapter's features; named like `adapter`."
    )
    tabpfn_members: Annotated[int, Field(ge=1, le=32)] = Field(
        4, description="Passes through TabPFN that are averaged."
    )
    tabpfn_dtype: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="Number format TabPFN computes in."
    )
    tabpfn_cache_dtype: Literal["float32", "bfloat16", "float16"] = Field(
        "float16", description="Number format of contexts as TabPFN has read them."
    )
    models_dir: Path = Field(
        Path("~/.cache/vzero/models"),
        description="Folder of weights fetched by `vzero models pull`.",
    )
    device: str = Field("auto", description="Torch device; auto takes CUDA when there is one.")
    dtype: Literal["auto", "float32", "bfloat16", "float16", "int8"] = Field(
        "auto",
        description="Number format of the backbone; auto takes bfloat16 where the hardware "
        "multiplies it faster, else float32. int8 needs runtime openvino.",
    )
    runtime: Literal["torch", "openvino"] = Field(
        "torch", description="What runs the backbone; openvino is for CPUs (vzero[openvino])."
    )
    threads: int = Field(
        0,
        ge=0,
        description="Threads of the models on a CPU; 0: one per core but one, at least one.",
    )

    head: str = Field(
        "packaged",
        description="In-context head: 'packaged' (made for MiniLM; with another backbone there is "
        "none), 'none', or a checkpoint file.",
    )
    context_rows: Annotated[int, Field(ge=1, le=2048)] = Field(
        512, description="Most outcomes of a window the in-context head reads."
    )
    estimator_modules: str | None = Field(
        None,
        description="Python modules, with commas between them, that register further estimators; "
        "unset: none.",
    )
    knn_k: Positive = Field(64, description="Neighbours the KNN estimator averages.")
    peers: Annotated[int, Field(ge=0, le=256)] = Field(
        32,
        description="Most other policies whose outcomes on the same prompts correct a policy's "
        "values; 0 for none.",
    )
    peer_refresh: Annotated[float, Field(ge=0)] = Field(
        30.0, description="Seconds for which what other policies earned may be out of date."
    )
    window_rows: Positive = Field(2048, description="Newest outcomes of a policy that count.")
    min_context_rows: Positive = Field(
        8, description="With fewer outcomes a policy is answered from the prior."
    )

    max_batch_tokens: Positive = Field(
        2048, description="Most tokens of a batch, padding counted where there is any."
    )
    max_queued_prompts: Positive = Field(
        16_384, description="Most prompts waiting for the backbone; beyond, calls are refused."
    )
    max_queue_delay: Seconds = Field(
        5.0,
        description="Seconds a new prompt may wait; beyond, calls with new ones are refused.",
    )
    feature_cache_bytes: Positive = Field(256 * MiB, description="Memory for feature vectors.")
    window_cache_bytes: Positive = Field(512 * MiB, description="Memory for context windows.")
    context_cache_bytes: Positive = Field(
        512 * MiB, description="Memory for contexts as estimators have read them."
    )
    max_database_bytes: int | None = Field(
        None, gt=0, description="Most bytes the database may take; unset: what the disk holds."
    )

    max_message_bytes: Positive = Field(64 * MiB, description="Largest message either way.")
    max_bundle_bytes: Positive = Field(4096 * MiB, description="Largest bundle to import.")
    max_concurrent_calls: Positive = Field(
        4096, description="Unary calls served at once; beyond, they are refused."
    )
    max_open_streams: Positive = Field(
        1024, description="Streams open at once; beyond, they are refused."
    )
    default_timeout: Seconds = Field(60.0, description="Deadline of a call that sets none, in s.")
    drain_timeout: Seconds = Field(
        10.0, description="Seconds running calls get to finish after SIGTERM."
    )
    hang_timeout: Seconds = Field(
        120.0,
        description="Seconds one job of a thread may take (a batch, a commit); beyond, the server "
        "ends itself with code 70.",
    )

    @field_validator("adapter", "tabpfn")
    @classmethod
    def _names_weights(cls, value: str) -> str:
        if value != "none":
            try:
                Source.parse(value)
            except WeightsError as error:
                raise ValueError(str(error)) from error
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> "Settings":
        if self.tabpfn != "none" and self.adapter == "none":
            raise ValueError("tabpfn reads the features of an adapter: set adapter as well")
        if self.adapter != "none":
            if self.head not in {"none", "packaged"}:
                raise ValueError("head cannot read the features of an adapter: set it to none")
            if self.backbone == "packaged":
                raise ValueError("adapter needs a backbone whose token states it was made for")
            if self.runtime != "torch" or self.dtype == "int8":
                raise ValueError("adapter needs runtime torch, and a dtype of floating numbers")
        return self

    @classmethod
    def load(cls, config: Path | None, **flags: Any) -> "Settings":  # noqa: ANN401
        """Read the settings.

        Args:
            config: TOML file, or None.
            flags: What the command line set; None counts as unset. The profile is the first
                that flags, environment or file name.

        Raises:
            pydantic.ValidationError: A setting is unknown or out of range.
            OSError: The file cannot be read.
            tomllib.TOMLDecodeError: The file is not TOML.
        """
        if config is not None and not config.is_file():
            raise FileNotFoundError(2, "no such file", str(config))
        named = flags.get("profile") or os.environ.get("VZERO_PROFILE")
        if named is None and config is not None:
            named = tomllib.loads(config.read_text()).get("profile")
        profile = profile_file(str(named or "compact"))

        class WithFile(cls):  # type: ignore[valid-type,misc]
            @classmethod
            def settings_customise_sources(
                cls, settings_cls: type[BaseSettings], **sources: PydanticBaseSettingsSource
            ) -> tuple[PydanticBaseSettingsSource, ...]:
                files = [
                    TomlConfigSettingsSource(settings_cls, toml_file=one)
                    for one in (config, profile)
                ]
                return sources["init_settings"], sources["env_settings"], *files

        loaded: Settings = WithFile(**{k: v for k, v in flags.items() if v is not None})
        return loaded
