"""Pages of runs and experiments, below ``/w/<workspace>/``."""

from django.urls import path

from runs.views import actions, compare, detail, files, lists, metrics, new

urlpatterns = [
    path("runs/", lists.run_list, name="run-list"),
    path("runs/live/", lists.run_list_live, name="run-list-live"),
    path("runs/bulk/", lists.run_bulk, name="run-bulk"),
    path("runs/delete/", lists.run_bulk_delete, name="run-bulk-delete"),
    path("runs/new/", new.run_new, name="run-new"),
    path("runs/new/upload/", new.run_upload, name="run-upload"),
    path("runs/new/arguments/", new.run_arguments, name="run-arguments"),
    path("runs/new/packages/", new.run_packages, name="run-packages"),
    path("compare/", compare.run_compare, name="run-compare"),
    path("experiments/", lists.experiment_list, name="experiment-list"),
    path("experiments/<str:name>/", lists.experiment_detail, name="experiment-detail"),
    path("experiments/<str:name>/archive/", lists.experiment_archive, name="experiment-archive"),
    path("runs/<str:run_id>/", detail.run_detail, name="run-detail"),
    path("runs/<str:run_id>/live/", detail.run_live, name="run-live"),
    path("runs/<str:run_id>/overview/", detail.run_overview_live, name="run-overview-live"),
    path("runs/<str:run_id>/metrics/", metrics.run_metrics, name="run-metrics"),
    path("runs/<str:run_id>/metrics/series/", metrics.run_series, name="run-series"),
    path("runs/<str:run_id>/metrics/others/", metrics.run_metrics_others, name="run-metrics-others"),
    path("runs/<str:run_id>/outputs/", files.run_outputs, name="run-outputs"),
    path("runs/<str:run_id>/outputs/tree/", files.run_tree, name="run-tree"),
    path("runs/<str:run_id>/outputs/zip/", files.run_zip, name="run-zip"),
    path("runs/<str:run_id>/files/<file:path>", files.run_file, name="run-file"),
    path("runs/<str:run_id>/code/", files.run_code, name="run-code"),
    path("runs/<str:run_id>/code/zip/", files.run_code_zip, name="run-code-zip"),
    path("runs/<str:run_id>/code/files/<file:path>", files.run_code_file, name="run-code-file"),
    path("runs/<str:run_id>/environment/", detail.run_environment, name="run-environment"),
    path("runs/<str:run_id>/details/", detail.run_raw, name="run-raw"),
    path("runs/<str:run_id>/details/json/", detail.run_raw_json, name="run-raw-json"),
    path("runs/<str:run_id>/cancel/", actions.run_cancel, name="run-cancel"),
    path("runs/<str:run_id>/resubmit/", new.run_resubmit, name="run-resubmit"),
    path("runs/<str:run_id>/archive/", actions.run_archive, name="run-archive"),
    path("runs/<str:run_id>/delete/", actions.run_delete, name="run-delete"),
    path("runs/<str:run_id>/rename/", actions.run_rename, name="run-rename"),
    path("runs/<str:run_id>/tags/", actions.run_tags, name="run-tags"),
    path("runs/<str:run_id>/notes/", actions.run_notes, name="run-notes"),
]
