"""Pages of datasets, below ``/w/<workspace>/``. What has no name of its own lies under ``data/``, so that no dataset's
name can be taken for an address."""

from django.urls import path

from studio.data_pages import datasets, wizard, wizard_naming, wizard_reading

_TABS = {
    "overview": datasets.dataset_overview,
    "preview": datasets.dataset_preview,
    "rows": datasets.dataset_rows,
    "profile": datasets.dataset_profile,
    "profile-cancel": datasets.dataset_profile_cancel,
    "lineage": datasets.dataset_lineage,
    "consume": datasets.dataset_consume,
}
_PLACES = {
    "overview": "",
    "preview": "preview/",
    "rows": "preview/rows/",
    "profile": "profile/",
    "profile-cancel": "profile/cancel/",
    "lineage": "lineage/",
    "consume": "consume/",
}

urlpatterns = [
    path("data/new/", wizard.wizard_start, name="wizard-start"),
    path("data/new/<uuid:draft>/files/", wizard.wizard_files, name="wizard-files"),
    path("data/new/<uuid:draft>/files/folder/", wizard.wizard_listing, name="wizard-listing"),
    path("data/new/<uuid:draft>/files/matches/", wizard.wizard_matches, name="wizard-matches"),
    path("data/new/<uuid:draft>/settings/", wizard_reading.wizard_settings, name="wizard-settings"),
    path("data/new/<uuid:draft>/settings/preview/", wizard_reading.wizard_preview, name="wizard-preview"),
    path("data/new/<uuid:draft>/columns/", wizard_reading.wizard_columns, name="wizard-columns"),
    path(
        "data/new/<uuid:draft>/columns/preview/", wizard_reading.wizard_columns_preview, name="wizard-columns-preview"
    ),
    path("data/new/<uuid:draft>/name/", wizard_naming.wizard_name, name="wizard-name"),
    *[path(f"data/<uuid:key>/{_PLACES[tab]}", view, name=f"data-{tab}") for tab, view in _TABS.items()],
    path("datasets/", datasets.dataset_list, name="dataset-list"),
    path("datasets/<str:name>/versions/", datasets.dataset_versions, name="dataset-versions"),
    path("datasets/<str:name>/versions/<int:version>/", datasets.dataset_version, name="dataset-version"),
    path("datasets/<str:name>/archive/", datasets.dataset_archive, name="dataset-archive"),
    path("datasets/<str:name>/delete/", datasets.dataset_delete, name="dataset-delete"),
    *[path(f"datasets/<str:name>/{_PLACES[tab]}", view, name=f"dataset-{tab}") for tab, view in _TABS.items()],
]
