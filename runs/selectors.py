"""Reading runs and experiments: lists by key, with a number of queries that does not grow with the page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import EllipsisType
from typing import Any

from django.db import connection
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.utils.translation import gettext as _

from runs.details import Comparison, compare, run_details, run_metrics
from runs.models import Experiment, MetricSeries, Run, RunParameter, RunTag
from studio.accounts.models import User, Workspace
from studio.lib.errors import Invalid, NotFound
from studio.lib.paging import Page, decode_cursor, encode_cursor

__all__ = [
    "Comparison", "ExperimentRow", "RunRow", "compare", "experiment_get", "experiments_page", "metric_names",
    "metric_over_runs", "parameter_names", "run_details", "run_get", "run_metrics", "runs_by_ids", "runs_page",
]  # fmt: skip

MAX_LIMIT = 500
EVERY_NAME = "*"


@dataclass(frozen=True)
class RunRow:
    """A run with the values of the chosen columns: last values of metrics, parameters as written, all tags."""

    run: Run
    metrics: dict[str, float | None] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class ExperimentRow:
    """An experiment and its newest run."""

    experiment: Experiment
    last: Run | None


def run_get(workspace: Workspace, run_id: str) -> Run:
    """The run with all that a page of it needs, in one query; NotFound for an id of another workspace too."""
    found = (
        Run.objects.filter(workspace=workspace, run_id=run_id)
        .select_related("experiment", "unit", "target", "environment", "snapshot", "parent", "created_by", "workspace")
        .first()
    )
    if found is None:
        raise NotFound(_("There is no run %(run)s in this workspace.") % {"run": run_id[:100]})
    return found


def experiment_get(workspace: Workspace, name: str) -> Experiment:
    found = Experiment.objects.filter(workspace=workspace, name=name).first()
    if found is None:
        raise NotFound(_("There is no experiment %(name)s in this workspace.") % {"name": name[:100]})
    return found


def _contains(search: str) -> Q:
    """Runs in whose name, id, experiment, notes or tags the text is, in any case of letters."""
    in_tags = RunTag.objects.filter(Q(key__icontains=search) | Q(value__icontains=search), run=OuterRef("pk"))
    return (
        Q(name__icontains=search)
        | Q(run_id__icontains=search)
        | Q(notes__icontains=search)
        | Q(experiment__in=Experiment.objects.filter(name__icontains=search))
        | Q(Exists(in_tags))
    )


def _filters(
    workspace: Workspace,
    *,
    experiment: Experiment | None,
    status: str | Sequence[str] | None,
    search: str,
    tag: tuple[str, str | None] | str | None,
    created_by: User | int | None,
    archived: bool | None,
    parent: Run | EllipsisType | None,
) -> QuerySet[Run]:
    rows = Run.objects.filter(experiment=experiment) if experiment else Run.objects.filter(workspace=workspace)
    if status:
        rows = rows.filter(status=status) if isinstance(status, str) else rows.filter(status__in=list(status))
    if archived is not None:
        rows = rows.filter(archived_at__isnull=not archived)
    if isinstance(parent, Run):
        rows = rows.filter(parent=parent)
    elif parent is None and not search:
        rows = rows.filter(parent=None)
    if created_by is not None:
        rows = rows.filter(created_by=created_by)
    if tag:
        key, value = (tag, None) if isinstance(tag, str) else tag
        match = RunTag.objects.filter(run=OuterRef("pk"), key=key)
        rows = rows.filter(Exists(match if value is None else match.filter(value=value)))
    if search:
        rows = rows.filter(_contains(search.replace("\x00", "")))
    return rows


# Sorts of the run's own columns; None: the id itself, in whose order runs were made.
_COLUMNS = {"created": None, "number": None, "name": "name", "duration": "duration_s", "status": "status"}
Key = tuple[int, Any, int]  # (0 with a value, 1 without; the value; the run's id)


def _sort(raw: str) -> tuple[str, str, bool]:
    """(kind, name, descending) of ``-metric:loss``; kind is metric, param or column."""
    descending = raw.startswith("-")
    word = raw[1:] if descending else raw
    kind, colon, name = word.partition(":")
    if colon and kind in ("metric", "param") and name:
        return kind, name, descending
    if word in _COLUMNS:
        return "column", word, descending
    raise Invalid(
        _("Sort by created, number, name, duration, status, metric:NAME or param:NAME, not by %(raw)s.")
        % {"raw": raw[:80]},
        field="sort",
    )


def _cursor(cursor: str | None, text: bool) -> Key | None:
    """The key that a cursor holds; Invalid for one that no such list gave out (``text``: it sorts by text)."""
    if not cursor:
        return None
    phase, value, at = decode_cursor(cursor, 3)
    fits = isinstance(value, str) if text else isinstance(value, (int, float)) and abs(value) < 1e308
    if phase not in (0, 1) or not isinstance(at, int) or not 0 <= at < 1 << 63 or not (fits or phase == 1):
        raise Invalid("The cursor is not one that this list gave out: start at the first page.", field="cursor")
    return phase, value, at


def _after(column: str, pk: str, key: Key, descending: bool) -> Q:
    """Rows after ``key`` in the order of (column, pk). The first bound is what the index is entered with."""
    _phase, value, at = key
    if descending:
        return Q(**{f"{column}__lte": value}) & (Q(**{f"{column}__lt": value}) | Q(**{f"{pk}__lt": at}))
    return Q(**{f"{column}__gte": value}) & (Q(**{f"{column}__gt": value}) | Q(**{f"{pk}__gt": at}))


def _by_id(rows: QuerySet[Run], after: Key | None, descending: bool, limit: int) -> list[Key]:
    if after is not None:
        rows = rows.filter(pk__lt=after[2]) if descending else rows.filter(pk__gt=after[2])
    ids = rows.order_by("-pk" if descending else "pk").values_list("pk", flat=True)[:limit]
    return [(1, None, pk) for pk in ids]


def _by_column(rows: QuerySet[Run], column: str, after: Key | None, descending: bool, limit: int) -> list[Key]:
    sign = "-" if descending else ""
    found: list[Key] = []
    if after is None or after[0] == 0:
        valued = rows.filter(**{f"{column}__isnull": False})
        if after is not None:
            valued = valued.filter(_after(column, "pk", after, descending))
        found = [
            (0, value, pk)
            for value, pk in valued.order_by(sign + column, sign + "pk").values_list(column, "pk")[:limit]
        ]
    if len(found) < limit:
        without = rows.filter(**{f"{column}__isnull": True})
        found += _by_id(without, after if after and after[0] == 1 else None, True, limit - len(found))
    return found


def _by_value(
    rows: QuerySet[Run],
    scope: dict[str, Any],
    kind: str,
    name: str,
    after: Key | None,
    descending: bool,
    limit: int,
) -> list[Key]:
    """By a metric's last value or a parameter's number: the index of values gives the order, and the runs that have
    none come last, newest first."""
    model: Any = MetricSeries if kind == "metric" else RunParameter
    column = "last" if kind == "metric" else "number"
    sign = "-" if descending else ""
    found: list[Key] = []
    if after is None or after[0] == 0:
        # The runs' own filter as a correlated EXISTS on the primary key: the outer loop stays on the index of values.
        valued = model.objects.filter(**scope, name=name, **{f"{column}__isnull": False})
        if after is not None:
            valued = valued.filter(_after(column, "run_id", after, descending))
        valued = valued.filter(Exists(rows.filter(pk=OuterRef("run_id"))))
        order = (sign + column, sign + "run_id")
        found = [(0, value, pk) for value, pk in valued.order_by(*order).values_list(column, "run_id")[:limit]]
    if len(found) < limit:
        have = model.objects.filter(run=OuterRef("pk"), name=name, **{f"{column}__isnull": False})
        found += _by_id(
            rows.filter(~Exists(have)), after if after and after[0] == 1 else None, True, limit - len(found)
        )
    return found


def runs_page(
    workspace: Workspace,
    *,
    experiment: Experiment | None = None,
    status: str | Sequence[str] | None = None,
    search: str = "",
    tag: tuple[str, str | None] | str | None = None,
    created_by: User | int | None = None,
    archived: bool | None = False,
    sort: str = "-created",
    columns: Sequence[str] = (),
    cursor: str | None = None,
    limit: int = 50,
    parent: Run | EllipsisType | None = None,
) -> Page[RunRow]:
    """A page of runs by key, in the same number of queries whatever is in it.

    ``sort``: created, number, name, duration, status, metric:NAME or param:NAME, with ``-`` for descending; runs
    without the value come last. ``columns``: metric:NAME and param:NAME, or metric:* and param:* for all.
    ``tag``: a key, or (key, value). ``archived``: None for both. ``parent``: a run for its children, None for runs
    without a parent (a search looks among children too), ... for all.
    """
    limit = max(1, min(limit, MAX_LIMIT))
    rows = _filters(
        workspace, experiment=experiment, status=status, search=search, tag=tag, created_by=created_by,
        archived=archived, parent=parent,
    )  # fmt: skip
    kind, name, descending = _sort(sort)
    column = _COLUMNS[name] if kind == "column" else None
    after = _cursor(cursor, column in ("name", "status"))
    if kind != "column":
        scope = {"experiment": experiment} if experiment else {"workspace": workspace}
        keys = _by_value(rows, scope, kind, name, after, descending, limit + 1)
        columns = [*columns, f"{kind}:{name}"]
    elif column is None:
        keys = _by_id(rows, after, descending, limit + 1)
    else:
        keys = _by_column(rows, column, after, descending, limit + 1)
    items = runs_by_ids(workspace, [pk for _phase, _value, pk in keys[:limit]], columns=columns)
    return Page(items, encode_cursor(keys[limit - 1]) if len(keys) > limit else None)


def runs_by_ids(workspace: Workspace, ids: Sequence[int], *, columns: Iterable[str] = ()) -> list[RunRow]:
    """Rows of these runs (primary keys), in that order; at most four queries."""
    runs = {
        run.pk: run
        for run in Run.objects.filter(workspace=workspace, pk__in=ids).select_related(
            "experiment", "created_by", "target", "environment", "parent", "unit", "workspace"
        ).defer("unit__spec", "unit__secrets")
    }  # fmt: skip
    found = {pk: RunRow(run) for pk, run in runs.items()}
    wanted: dict[str, set[str]] = {"metric": set(), "param": set()}
    for column in columns:
        kind, _colon, name = column.partition(":")
        if kind in wanted and name:
            wanted[kind].add(name)
    for row, name, last in _values(MetricSeries, "last", runs, wanted["metric"]):
        found[row].metrics[name] = last
    for row, name, value in _values(RunParameter, "value", runs, wanted["param"]):
        found[row].params[name] = value
    for row, key, value in (
        RunTag.objects.filter(run__in=list(runs)).order_by("key").values_list("run_id", "key", "value")
    ):
        found[row].tags[key] = value
    return [found[pk] for pk in ids if pk in found]


def _values(model: Any, column: str, runs: dict[int, Run], names: set[str]) -> Iterable[tuple[int, str, Any]]:
    if not names or not runs:
        return ()
    rows = model.objects.filter(run__in=list(runs))
    if EVERY_NAME not in names:
        rows = rows.filter(name__in=names)
    if model is MetricSeries:
        rows = rows.filter(kind__in=("scalar", "list"))
    found: Iterable[tuple[int, str, Any]] = rows.order_by("name").values_list("run_id", "name", column)
    return found


def _distinct_names(model: Any, workspace: Workspace, experiment: Experiment | None, limit: int) -> list[str]:
    """The different names in an index, by jumping from one to the next: ten names in a million rows cost ten steps."""
    table = connection.ops.quote_name(model._meta.db_table)
    scope, value = ("experiment_id", experiment.pk) if experiment else ("workspace_id", workspace.pk)
    # Names of tables and columns are ours; values are bound.
    statement = f"""
        WITH RECURSIVE found(name) AS (
            SELECT * FROM (SELECT MIN(name) FROM {table} WHERE {scope} = %s) AS first
            UNION ALL
            SELECT (SELECT MIN(name) FROM {table} WHERE {scope} = %s AND name > found.name)
            FROM found WHERE found.name IS NOT NULL
        )
        SELECT name FROM found WHERE name IS NOT NULL LIMIT %s
    """  # noqa: S608 - names are quoted, values are parameters
    with connection.cursor() as cursor:
        cursor.execute(statement, [value, value, limit])
        return [row[0] for row in cursor.fetchall()]


def metric_names(workspace: Workspace, experiment: Experiment | None = None, *, limit: int = 2000) -> list[str]:
    """Names of the metrics in a workspace or an experiment, by name."""
    return _distinct_names(MetricSeries, workspace, experiment, limit)


def parameter_names(workspace: Workspace, experiment: Experiment | None = None, *, limit: int = 2000) -> list[str]:
    """Names of the parameters in a workspace or an experiment, by name."""
    return _distinct_names(RunParameter, workspace, experiment, limit)


def metric_over_runs(experiment: Experiment, metric: str, *, limit: int = 500) -> list[dict[str, Any]]:
    """The metric's last value of each of the newest runs that have it, oldest first: {"number", "value", "run_id"}."""
    rows = (
        MetricSeries.objects.filter(experiment=experiment, name=metric, last__isnull=False, run__archived_at=None)
        .order_by("-run_id")
        .values_list("run__number", "last", "run__run_id")[:limit]
    )
    return [{"number": number, "value": value, "run_id": run_id} for number, value, run_id in reversed(rows)]


def experiments_page(
    workspace: Workspace, *, search: str = "", archived: bool | None = False, cursor: str | None = None, limit: int = 50
) -> Page[ExperimentRow]:
    """Experiments by their newest run; those that never had one come last. Two queries."""
    limit = max(1, min(limit, MAX_LIMIT))
    rows = Experiment.objects.filter(workspace=workspace)
    if archived is not None:
        rows = rows.filter(archived_at__isnull=not archived)
    if search:
        rows = rows.filter(name__icontains=search.replace("\x00", ""))
    if cursor:
        at, pk = decode_cursor(cursor, 2)
        if not isinstance(pk, int) or not 0 <= pk < 1 << 63 or not isinstance(at, (str, type(None))):
            raise Invalid("The cursor is not one that this list gave out: start at the first page.", field="cursor")
        rows = rows.filter(_experiments_after(at, pk))
    items = list(rows.order_by(F("last_run_at").desc(nulls_last=True), "-pk")[: limit + 1])
    more, items = len(items) > limit, items[:limit]
    newest: dict[int, Run] = {}
    if items:
        numbers = Q()
        for experiment in items:
            numbers |= Q(experiment=experiment, number=experiment.run_count)
        newest = {run.experiment_id: run for run in Run.objects.filter(numbers)}
    last = items[-1] if more else None
    key = [last.last_run_at.isoformat() if last.last_run_at else None, last.pk] if last else None
    return Page([ExperimentRow(one, newest.get(one.pk)) for one in items], encode_cursor(key) if key else None)


def _experiments_after(at: str | None, pk: int) -> Q:
    if at is None:
        return Q(last_run_at=None, pk__lt=pk)
    try:
        moment = datetime.fromisoformat(at)
    except ValueError:
        raise Invalid(
            "The cursor is not one that this list gave out: start at the first page.", field="cursor"
        ) from None
    return Q(last_run_at__lt=moment) | Q(last_run_at=moment, pk__lt=pk) | Q(last_run_at=None)
