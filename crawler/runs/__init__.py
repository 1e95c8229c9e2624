"""Runs published exactly once: what lies where, who may write it, and when a reader may believe it.

    runs/RUN/attempts/00001.json      create-only: this attempt began, and rests on these records of earlier ones
    runs/RUN/attempts/00001.alive     rewritten every few seconds while it lives, and when it has ended
    runs/RUN/records/00001-000001.ndjson    create-only: these parts hold these units whole
    runs/RUN/ledger-00001.ndjson.gz   the outcome of every unit
    runs/RUN/timeline-00001.json      requests, refusals and learned rates of the attempt that published, over time
    runs/RUN/manifest.json            create-only, last: the run is published, and it is these parts
    data/date=2026-01-31/run=RUN/     parts; nothing but the manifest gives them a meaning
    hive/parquet/date=2026-01-31/run=RUN/symlink.txt    the same parts, for Athena

No lock: an attempt numbers itself by a create-only file, and the highest number has the run. An older attempt that
still lives finds out, and stops; what it wrote meanwhile, no later attempt rests on and no manifest names.
"""
