from django.urls import path

from studio.accounts import views

urlpatterns = [
    path("account/tokens/", views.token_list, name="token-list"),
    path("account/tokens/<int:token_id>/revoke/", views.token_revoke, name="token-revoke"),
    path("invite/<str:secret>/", views.invite_accept, name="invite-accept"),
    path("workspaces/new/", views.workspace_new, name="workspace-new"),
    path("w/<slug:workspace>/members/", views.member_list, name="member-list"),
    path("w/<slug:workspace>/members/invite/", views.member_invite, name="member-invite"),
    path("w/<slug:workspace>/members/<int:user_id>/role/", views.member_role, name="member-role"),
    path("w/<slug:workspace>/members/<int:user_id>/remove/", views.member_remove, name="member-remove"),
    path(
        "w/<slug:workspace>/members/invitations/<int:invitation_id>/revoke/",
        views.invitation_revoke,
        name="invitation-revoke",
    ),
    path("w/<slug:workspace>/members/principals/", views.principal_create, name="principal-create"),
    path(
        "w/<slug:workspace>/members/principals/<int:principal_id>/rotate/",
        views.principal_rotate,
        name="principal-rotate",
    ),
    path(
        "w/<slug:workspace>/members/principals/<int:principal_id>/delete/",
        views.principal_delete,
        name="principal-delete",
    ),
    path("w/<slug:workspace>/audit/", views.audit_log, name="audit-log"),
    path("w/<slug:workspace>/settings/", views.workspace_settings, name="workspace-settings"),
]
