"""Pages of datastores, below ``/w/<workspace>/``."""

from django.urls import path

from studio.data_pages import datastores

urlpatterns = [
    path("datastores/", datastores.datastore_list, name="datastore-list"),
    path("datastores/new/", datastores.datastore_new, name="datastore-new"),
    path("datastores/<slug:name>/", datastores.datastore_detail, name="datastore-detail"),
    path("datastores/<slug:name>/check/", datastores.datastore_check, name="datastore-check"),
    path("datastores/<slug:name>/edit/", datastores.datastore_edit, name="datastore-edit"),
    path("datastores/<slug:name>/default/", datastores.datastore_default, name="datastore-default"),
    path("datastores/<slug:name>/remove/", datastores.datastore_remove, name="datastore-remove"),
    path("datastores/<slug:name>/delete/", datastores.datastore_delete_entry, name="datastore-delete-entry"),
]
