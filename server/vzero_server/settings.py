"""The settings of the server, each in one place."""

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
    """Return the TOML file of a profile.

    Args:
        name: A profile that comes with the server, or the path of a TOML file.

    Raises:
        FileNotFoundError: There is no such profile or file.
    """
    packaged = PROFILES / f"{name}.toml"
    if packaged.parent == PROFILES and packaged.is_file():
        return packaged
    path = Path(name).expanduser()
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in PROFILES.glob("*.toml")))
        raise FileNotFoundError(2, f"neither a profile ({known}) nor a file", name)
    return path


class Settings(BaseSettings):
    """Settings of the server.

    Flags take precedence over the environment (``VZERO_*``), the environment over the
    configuration file, and the configuration file over the profile.
    """

    model_config = SettingsConfigDict(env_prefix="VZERO_", extra="forbid")

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        50051, description="Port to listen on; 0 takes a free one."
    )
    admin_host: str = Field("127.0.0.1", description="Address of the admin port.")
    admin_port: Annotated[int, Field(ge=0, le=65535)] | None = Field(
        None,
        description="HTTP port of metrics and probes; 0 takes a free one, unset: no admin port.",
    )
    data_dir: Path = Field(Path("vzero-data"), description="Folder of the durable log.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Lowest level of log lines that are printed."
    )
    trace_endpoint: str | None = Field(
        None,
        description="URL of an OpenTelemetry collector (OTLP over gRPC) that receives traces; "
        "unset: no traces.",
    )

    profile: str = Field(
        "compact",
        description="Set of defaults: 'compact', 'paper', or a TOML file. Settings given in any "
        "other way take precedence.",
    )
    backbone: str = Field(
        "packaged", description="'packaged' (MiniLM), a folder, or a hub name[@revision]."
    )
    adapter: str = Field(
        "none",
        description="Residual Query Adapter on the token states of the backbone: 'none', a file, "
        "or owner/name/file[@revision][#sha256] of a hub.",
    )
    tabpfn: str = Field(
        "none", description="TabPFN head on the features of the adapter; same values as `adapter`."
    )
    tabpfn_members: Annotated[int, Field(ge=1, le=32)] = Field(
        4, description="Number of TabPFN passes that are averaged."
    )
    tabpfn_dtype: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="Number format in which TabPFN computes."
    )
    tabpfn_cache_dtype: Literal["float32", "bfloat16", "float16"] = Field(
        "float16", description="Number format of contexts that TabPFN has fitted."
    )
    models_dir: Path = Field(
        Path("~/.cache/vzero/models"),
        description="Folder of the weights that `vzero models pull` downloads.",
    )
    device: str = Field("auto", description="Torch device; auto: CUDA if available, else the CPU.")
    dtype: Literal["auto", "float32", "bfloat16", "float16", "int8"] = Field(
        "auto",
        description="Number format of the backbone; auto: bfloat16 if the hardware multiplies it "
        "faster, else float32. int8 needs runtime openvino.",
    )
    runtime: Literal["torch", "openvino"] = Field(
        "torch", description="Runtime of the backbone; openvino runs on CPUs (vzero[openvino])."
    )
    threads: int = Field(
        0,
        ge=0,
        description="Threads of the models on a CPU; 0: one less than the cores, at least one.",
    )

    head: str = Field(
        "packaged",
        description="In-context head: 'packaged' (for MiniLM; no head with another backbone), "
        "'none', or a checkpoint file.",
    )
    context_rows: Annotated[int, Field(ge=1, le=2048)] = Field(
        512, description="Newest outcomes of a window that the in-context head reads."
    )
    estimator_modules: str | None = Field(
        None,
        description="Python modules that register further estimators, separated by commas; "
        "unset: none.",
    )
    knn_k: Positive = Field(64, description="Number of neighbours that the KNN estimator averages.")
    peers: Annotated[int, Field(ge=0, le=256)] = Field(
        32,
        description="Maximum number of other policies whose outcomes on the same prompts correct "
        "the values of a policy; 0: no correction.",
    )
    peer_refresh: Annotated[float, Field(ge=0)] = Field(
        30.0, description="Seconds after which the rewards of other policies are read again."
    )
    window_rows: Positive = Field(
        2048, description="Newest outcomes of a policy that form its window."
    )
    min_context_rows: Positive = Field(
        8, description="A policy with fewer outcomes gets values from the prior."
    )

    max_batch_tokens: Positive = Field(
        2048, description="Maximum number of tokens of a batch, including padding."
    )
    max_queued_prompts: Positive = Field(
        16_384,
        description="Maximum number of prompts queued for the backbone; further calls with new "
        "prompts are refused.",
    )
    max_queue_delay: Seconds = Field(
        5.0,
        description="Maximum expected wait of a new prompt, in seconds; further calls with new "
        "prompts are refused.",
    )
    feature_cache_bytes: Positive = Field(
        256 * MiB, description="Memory of cached feature vectors."
    )
    window_cache_bytes: Positive = Field(512 * MiB, description="Memory of cached context windows.")
    context_cache_bytes: Positive = Field(
        512 * MiB, description="Memory of cached contexts that estimators have fitted."
    )
    max_database_bytes: int | None = Field(
        None, gt=0, description="Maximum size of the database; unset: no limit but the disk."
    )

    max_message_bytes: Positive = Field(64 * MiB, description="Maximum size of a request or reply.")
    max_bundle_bytes: Positive = Field(
        4096 * MiB, description="Maximum size of a bundle to import."
    )
    max_concurrent_calls: Positive = Field(
        4096, description="Maximum number of concurrent unary calls; further calls are refused."
    )
    max_open_streams: Positive = Field(
        1024, description="Maximum number of open streams; further streams are refused."
    )
    default_timeout: Seconds = Field(
        60.0, description="Deadline of a unary call that sets none, in seconds."
    )
    drain_timeout: Seconds = Field(
        10.0, description="Time for running calls to finish after SIGTERM, in seconds."
    )
    hang_timeout: Seconds = Field(
        120.0,
        description="Maximum duration of one job of a thread, such as a batch or a commit, in "
        "seconds; after it the server exits with code 70.",
    )

    @field_validator("adapter", "tabpfn")
    @classmethod
    def _check_source(cls, value: str) -> str:
        if value != "none":
            try:
                Source.parse(value)
            except WeightsError as error:
                raise ValueError(str(error)) from error
        return value

    @model_validator(mode="after")
    def _check_combination(self) -> "Settings":
        if self.tabpfn != "none" and self.adapter == "none":
            raise ValueError("tabpfn needs the features of an adapter: set adapter as well")
        if self.adapter != "none":
            if self.head not in {"none", "packaged"}:
                raise ValueError("head cannot read the features of an adapter: set it to none")
            if self.backbone == "packaged":
                raise ValueError("adapter needs the backbone it was trained on: set backbone")
            if self.runtime != "torch" or self.dtype == "int8":
                raise ValueError("adapter needs runtime torch and a floating-point dtype")
        return self

    @classmethod
    def load(cls, config: Path | None, **flags: Any) -> "Settings":  # noqa: ANN401
        """Read the settings.

        Args:
            config: TOML file, or None.
            flags: Flags of the command line; None counts as unset. The profile comes from the
                first of flags, environment and file that names one.

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
                    TomlConfigSettingsSource(settings_cls, toml_file=file)
                    for file in (config, profile)
                ]
                return sources["init_settings"], sources["env_settings"], *files

        loaded: Settings = WithFile(**{k: v for k, v in flags.items() if v is not None})
        return loaded
