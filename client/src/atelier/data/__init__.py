"""Datasets: what they are, what reads them, and the names that scripts type. Nothing is imported here.

- The definition, pure: ``definition steps expressions values partitions errors``.
- Where bytes come from: ``sources globs`` (this machine), ``remote cache copies`` (HTTP), ``studio_source``,
  ``unit_source``.
- What evaluates a definition: ``engine`` is the front. ``rows`` with ``delimited`` and ``tables`` is the reference, by
  the standard library; the others give the same, faster: DuckDB (``duck duck_frames casts predicates parts``), pandas
  (``frames frame_types`` and what they use), pyarrow (``arrow``), Spark (``spark``). ``profile`` computes figures.
- v1's objects: ``abstract tabular_dataset file_dataset factory dataflow consumption outputs references paths``;
  ``bindings`` gathers them for a submit.
- The studio's side of them: ``store_files store_register studio_profile``.
"""
