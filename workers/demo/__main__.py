"""``make demo``: a bucket in, SQL out."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

from sqlalchemy import text

from pipeline.db.engine import open_database
from pipeline.errors import PipelineError
from workers.demo.media import PROFILES, build_demo_media
from workers.demo.server import BUCKET, bucket_server, use_private_server_only

QUERIES = {
    "which shots show an animal, and which modality says so": (
        "SELECT uri, shot_index, label, round(score * 100) AS percent, modalities FROM v_tags "
        "WHERE label IN ('cat', 'lion', 'cheetah') ORDER BY score DESC"
    ),
    "everything that was said, shown or subtitled about times": (
        "SELECT uri, origin, start_ms, text FROM v_cues WHERE text LIKE '%times%' "
        "ORDER BY uri, start_ms"
    ),
    "what the stages cost": (
        "SELECT stage, count(*) AS runs, round(sum(seconds) * 1000) AS ms FROM v_stage_runs "
        "WHERE state = 'succeeded' GROUP BY stage ORDER BY 3 DESC"
    ),
}


def main() -> int:
    folder = Path(sys.argv[1])
    media = build_demo_media(folder)
    use_private_server_only()
    data_dir = folder / "work"
    with bucket_server(media.bucket) as endpoint:
        environment = {
            **os.environ,
            "MEDIAWEAVE_S3__ENDPOINT_URL": endpoint,
            "MEDIAWEAVE_DATA_DIR": str(data_dir),
            "MEDIAWEAVE_DATABASE": _database_url(data_dir),
            "MEDIAWEAVE_ARTIFACTS": str(data_dir / "artifacts"),
            "MEDIAWEAVE_BROKER": "memory://",
            "MEDIAWEAVE_PROFILES": json.dumps(PROFILES),
        }
        print(f"$ mediaweave run s3://{BUCKET}", flush=True)
        code = _mediaweave(["run", f"s3://{BUCKET}"], environment)
        if code not in (0, 1):
            return code
        print(flush=True)
        _mediaweave(["show", *_assets(data_dir)], environment)
    _try_it(data_dir)
    return code


def _mediaweave(arguments: list[str], environment: dict[str, str]) -> int:
    command = [sys.executable, "-m", "workers.cli", *arguments]
    return subprocess.run(command, env=environment, check=False).returncode


def _database_url(data_dir: Path) -> str:
    return f"sqlite:///{data_dir / 'mediaweave.db'}"


def _assets(data_dir: Path) -> list[str]:
    database = open_database(_database_url(data_dir))
    with database.reading() as connection:
        query = "SELECT asset_id FROM v_assets WHERE asset_id IS NOT NULL ORDER BY uri"
        return [str(row) for row in connection.execute(text(query)).scalars()]


def _try_it(data_dir: Path) -> None:
    database = data_dir / "mediaweave.db"
    command = f"{Path(sys.executable).parent / 'mediaweave'}"
    if Path(command).is_relative_to(Path.cwd()):
        command = str(Path(command).relative_to(Path.cwd()))
    option = f"--database {shlex.quote(_database_url(data_dir))}"
    print(f"The database is {database}. Any SQL client opens it; so does this:\n")
    for title, query in QUERIES.items():
        print(f'# {title}\n{command} sql {option} \\\n  "{query}"\n')
    print(f"# a search by meaning\n{command} search {option} 'rocket launch into space'")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except PipelineError as error:
        sys.exit(f"mediaweave demo: {error}")
