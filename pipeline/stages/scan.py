"""scan: one range of a long video → its shots and keyframes, for splitting to join.

There is a stage for each range, so that several workers take part in one video.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial

from pipeline.errors import ContractError
from pipeline.media import SplitParams, scan_media
from pipeline.media.ranges import MAX_RANGES, count_ranges
from pipeline.stages.base import Blob, Models, StageInputs, StageOutput, StageSpec


def run(index: int, inputs: StageInputs, params: SplitParams, models: Models) -> StageOutput:
    info = inputs.info()
    count = count_ranges(
        kind=info.kind,
        container=info.container,
        duration_ms=info.duration_ms,
        params=asdict(params),
    )
    if index >= count:
        raise ContractError(f"range {index} of {count} was asked for")
    result = scan_media(
        inputs.media(),
        info=info,
        params=params,
        index=index,
        count=count,
        work_dir=inputs.work_dir,
        limits=inputs.limits,
    )
    with result.path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    scan = Blob(
        name="scan", path=result.path, sha256=digest, media_type="application/x-safetensors"
    )
    return StageOutput(blobs=[scan], notes=result.notes, cpu_seconds=result.usage.by_kind())


def scan_name(index: int) -> str:
    """The stage of a range; names sort like the ranges."""
    return f"scan_{index + 1:02d}"


def _spec(index: int) -> StageSpec:
    return StageSpec(
        name=scan_name(index),
        queue="cpu",
        code_version=1,
        kinds=frozenset({"video"}),
        inputs=("media",),
        outputs=("scan",),
        roles=(),
        params=SplitParams,
        configured_as="split",
        run=partial(run, index),
    )


SPECS: Mapping[str, StageSpec] = {
    spec.name: spec for spec in (_spec(index) for index in range(MAX_RANGES))
}
