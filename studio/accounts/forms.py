"""Forms of the member, token and workspace pages."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from studio.accounts.models import Role, Workspace

LIFETIMES = [
    ("7", _("7 days")),
    ("30", _("30 days")),
    ("90", _("90 days")),
    ("365", _("1 year")),
    ("", _("Until revoked")),
]


class InviteForm(forms.Form):
    role = forms.ChoiceField(label=_("Role"), choices=Role.choices, initial=Role.CONTRIBUTOR)
    email = forms.EmailField(
        label=_("Only for this email address"),
        required=False,
        help_text=_("Left empty, whoever has the link can join."),
    )


class PrincipalForm(forms.Form):
    name = forms.CharField(
        label=_("Name"), max_length=100, help_text=_("The program or pipeline that signs in with it.")
    )
    role = forms.ChoiceField(label=_("Role"), choices=Role.choices, initial=Role.CONTRIBUTOR)


class TokenForm(forms.Form):
    name = forms.CharField(label=_("Name"), max_length=100, help_text=_("Where it is used: laptop, nightly job."))
    days = forms.TypedChoiceField(
        label=_("Expires after"), choices=LIFETIMES, coerce=int, empty_value=None, required=False, initial="90"
    )


class WorkspaceForm(forms.Form):
    name = forms.CharField(
        label=_("Name"),
        max_length=63,
        help_text=_("In addresses and config.json: lower-case letters, digits and hyphens."),
    )
    title = forms.CharField(label=_("Title"), max_length=200, required=False)


class SettingsForm(forms.Form):
    title = forms.CharField(label=_("Title"), max_length=200)
    description = forms.CharField(label=_("Description"), required=False, widget=forms.Textarea(attrs={"rows": 3}))
    strict_python = forms.BooleanField(
        label=_("Refuse environments whose Python this machine does not have"),
        required=False,
        help_text=_("Otherwise such a run takes the nearest Python there is, with a warning."),
    )
    snapshot_max_mb = forms.IntegerField(
        label=_("Largest snapshot, in MB"), required=False, min_value=1, help_text=_("Empty: the studio's default.")
    )
    snapshot_max_files = forms.IntegerField(
        label=_("Most files in a snapshot"), required=False, min_value=1, help_text=_("Empty: the studio's default.")
    )

    @staticmethod
    def initial_of(workspace: Workspace) -> dict[str, Any]:
        kept = workspace.preferences
        size = kept.get("snapshot_max_bytes")
        return {
            "title": workspace.title,
            "description": workspace.description,
            "strict_python": kept.get("strict_python", False),
            "snapshot_max_mb": size // 2**20 if size else None,
            "snapshot_max_files": kept.get("snapshot_max_files"),
        }

    def preferences(self) -> dict[str, Any]:
        size = self.cleaned_data["snapshot_max_mb"]
        return {
            "strict_python": self.cleaned_data["strict_python"] or None,
            "snapshot_max_bytes": size * 2**20 if size else None,
            "snapshot_max_files": self.cleaned_data["snapshot_max_files"],
        }
