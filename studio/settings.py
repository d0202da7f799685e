"""Settings, all from the environment; docs/operations.md lists them. A typo stops the start with the setting's name."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import dj_database_url
from csp.constants import NONE, SELF

from studio.bootstrap import broker
from studio.lib import env
from studio.lib import secrets as secret_files

BASE_DIR = Path(__file__).resolve().parent.parent

ATELIER_DATA = Path(env.text("ATELIER_DATA") or BASE_DIR / "data").resolve()
ATELIER_HOST = env.text("ATELIER_HOST", "127.0.0.1")
ATELIER_PORT = env.integer("ATELIER_PORT", 8700, minimum=1)
EVERYWHERE = ATELIER_HOST == "0.0.0.0"  # noqa: S104 - compared, not bound
ATELIER_URL = env.text("ATELIER_URL") or f"http://{'127.0.0.1' if EVERYWHERE else ATELIER_HOST}:{ATELIER_PORT}"
# The same for units, where they find the studio under another name than people do.
ATELIER_UNIT_URL = env.text("ATELIER_UNIT_URL") or ATELIER_URL
ATELIER_KEYS_FILE = Path(env.text("ATELIER_KEYS_FILE") or ATELIER_DATA / "secrets" / "fernet.keys")
ATELIER_SNAPSHOT_MAX_BYTES = env.integer("ATELIER_SNAPSHOT_MAX_BYTES", 300 * 1024 * 1024, minimum=1)
ATELIER_SNAPSHOT_MAX_FILES = env.integer("ATELIER_SNAPSHOT_MAX_FILES", 2000, minimum=1)
ATELIER_CACHE_BYTES = env.integer("ATELIER_CACHE_BYTES", 50 << 30, minimum=0)  # files fetched from datastores
ATELIER_LOCAL_SLOTS = env.integer("ATELIER_LOCAL_SLOTS", 0, minimum=0)  # 0: one per processor
# Where there is Docker on this machine, and the image that runs get without an environment that names another.
ATELIER_DOCKER_SOCKET = env.text("ATELIER_DOCKER_SOCKET", "/var/run/docker.sock")
ATELIER_BASE_IMAGE = env.text("ATELIER_BASE_IMAGE", "python:3.11-slim-bookworm")
ATELIER_DOCKER_VOLUMES = env.folders("ATELIER_DOCKER_VOLUMES")  # what owners may mount; site administrators: anything
ATELIER_SERVICE_HOST = env.text("ATELIER_SERVICE_HOST", "127.0.0.1")
ATELIER_SERVICE_ADDRESS = env.text("ATELIER_SERVICE_ADDRESS")  # where the studio itself calls them; empty: that host
ATELIER_SERVICE_PORTS = env.text("ATELIER_SERVICE_PORTS", "8750-8849")
# What datastores may reach: networks and host names, and folders of this machine. See docs/operations.md, "Data".
ATELIER_DATA_DENY = env.reach("ATELIER_DATA_DENY")
ATELIER_DATA_ALLOW = env.reach("ATELIER_DATA_ALLOW")
ATELIER_LOCAL_DATA = env.folders("ATELIER_LOCAL_DATA")
ATELIER_LOG_RECHECK_S = env.integer("ATELIER_LOG_RECHECK_S", 60, minimum=1)  # live output asks again who may see it
ATELIER_PROFILE_MEMORY = env.memory("ATELIER_PROFILE_MEMORY", "512MB")  # of one dataset profile; the rest goes to disk

DEBUG = env.flag("ATELIER_DEBUG")
TESTING = "pytest" in sys.modules
SECRET_KEY = env.text("ATELIER_SECRET_KEY") or secret_files.secret_key(ATELIER_DATA / "secrets" / "django.key")
HTTPS = ATELIER_URL.startswith("https://")
ALLOWED_HOSTS = env.words("ATELIER_ALLOWED_HOSTS", "*" if EVERYWHERE else "127.0.0.1,localhost,[::1]")
CSRF_TRUSTED_ORIGINS = env.words("ATELIER_TRUSTED_ORIGINS", ATELIER_URL)

INSTALLED_APPS = [
    "daphne",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.humanize",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "template_partials",
    "django_htmx",
    "channels",
    "csp",
    "ninja",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.openid_connect",
    "studio.accounts",
    "studio.datasets",
    "studio",
    "compute",
    "runs",
    "models_registry",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "studio.middleware.ErrorPagesMiddleware",
]

ROOT_URLCONF = "studio.urls"
ASGI_APPLICATION = "studio.asgi.application"

TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "studio.context.shell",
            ],
            "builtins": ["template_partials.templatetags.partials", "studio.templatetags.atelier"],
        },
    }
]

DATABASES = {
    "default": dj_database_url.parse(
        env.text("DATABASE_URL") or f"sqlite:///{ATELIER_DATA / 'atelier.sqlite3'}",
        conn_max_age=300,
        conn_health_checks=True,
    )
}
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    # IMMEDIATE: a transaction that will write takes the lock at once and waits for it, instead of failing half-way.
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 30,
        "init_command": (
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-16000; "
            "PRAGMA mmap_size=268435456; PRAGMA temp_store=MEMORY; PRAGMA journal_size_limit=67108864;"
        ),
    }
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# The broker's socket lies under the data folder, or under /tmp where that path is too long for a socket.
VALKEY_SOCKET = broker.socket_path(ATELIER_DATA)
REDIS_URL = env.text("REDIS_URL") or f"unix://{VALKEY_SOCKET}"
if env.text("REDIS_URL"):
    # With several web processes rate limits count across them; with one, its own memory needs no broker to sign in.
    CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": REDIS_URL}}

CELERY_BROKER_URL = REDIS_URL.replace("unix://", "redis+socket://", 1)
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": 120,
    # A broker that is away costs a publisher a moment, not six seconds; the worker keeps trying by its own settings.
    "max_retries": 1,
    "interval_start": 0,
    "interval_step": 0.1,
    "interval_max": 0.1,
}
CELERY_TIMEZONE = "UTC"
CELERY_WORKER_HIJACK_ROOT_LOGGER = False

AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "/"
ACCOUNT_LOGIN_METHODS = {"username", "email"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "email*", "password1*", "password2*"]
ACCOUNT_EMAIL_VERIFICATION = env.text("ATELIER_EMAIL_VERIFICATION", "none")
ACCOUNT_LOGOUT_ON_GET = False
ACCOUNT_PREVENT_ENUMERATION = True
ACCOUNT_ADAPTER = "studio.accounts.adapter.AccountAdapter"
SOCIALACCOUNT_ADAPTER = "studio.accounts.adapter.SocialAccountAdapter"
SOCIALACCOUNT_PROVIDERS: dict[str, Any] = {}
# Many providers print their issuer with a slash at its end, which would come before that of "/.well-known".
OIDC_SERVER = env.text("ATELIER_OIDC_SERVER").rstrip("/")
if OIDC_SERVER:
    SOCIALACCOUNT_PROVIDERS["openid_connect"] = {
        "OAUTH_PKCE_ENABLED": True,
        "APPS": [
            {
                "provider_id": "oidc",
                "name": env.text("ATELIER_OIDC_NAME", "Single sign-on"),
                "client_id": env.text("ATELIER_OIDC_CLIENT_ID"),
                "secret": env.text("ATELIER_OIDC_CLIENT_SECRET"),
                "settings": {"server_url": OIDC_SERVER},
            }
        ],
    }
MFA_ADAPTER = "studio.accounts.adapter.MFAAdapter"
MFA_SUPPORTED_TYPES = ["totp", "recovery_codes"]
MFA_TOTP_ISSUER = "Atelier"
# Without a mail server no address is ever verified, and a second factor must not depend on one.
MFA_ALLOW_UNVERIFIED_EMAIL = ACCOUNT_EMAIL_VERIFICATION != "mandatory"
# How many proxies in front of us may be believed about the caller's address (rate limits, audit log).
ALLAUTH_TRUSTED_PROXY_COUNT = env.integer("ATELIER_TRUSTED_PROXIES", 0, minimum=0)

# Without a mail server, mails (password resets) go to the web server's log.
EMAIL_HOST = env.text("ATELIER_EMAIL_HOST")
EMAIL_PORT = env.integer("ATELIER_EMAIL_PORT", 587, minimum=1)
EMAIL_HOST_USER = env.text("ATELIER_EMAIL_USER")
EMAIL_HOST_PASSWORD = env.text("ATELIER_EMAIL_PASSWORD")
EMAIL_USE_TLS = env.flag("ATELIER_EMAIL_TLS", True)
EMAIL_BACKEND = f"django.core.mail.backends.{'smtp' if EMAIL_HOST else 'console'}.EmailBackend"
DEFAULT_FROM_EMAIL = env.text("ATELIER_EMAIL_FROM", "atelier@localhost.localdomain")

LANGUAGE_CODE = env.text("ATELIER_LANGUAGE", "en")
TIME_ZONE = env.text("ATELIER_TIME_ZONE", "UTC")
USE_I18N = True
USE_TZ = True

STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG or TESTING
        else "whitenoise.storage.CompressedManifestStaticFilesStorage"
    },
}
WHITENOISE_USE_FINDERS = DEBUG or TESTING
WHITENOISE_KEEP_ONLY_HASHED_FILES = True
WHITENOISE_SKIP_COMPRESS_EXTENSIONS = ("map", "png", "woff2", "gz", "ico")

DATA_UPLOAD_MAX_MEMORY_SIZE = 64 * 1024 * 1024
DATA_UPLOAD_MAX_NUMBER_FILES = ATELIER_SNAPSHOT_MAX_FILES + 10
DATA_UPLOAD_MAX_NUMBER_FIELDS = 10_000
FILE_UPLOAD_HANDLERS = ["django.core.files.uploadhandler.TemporaryFileUploadHandler"]

SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SECURE_SSL_REDIRECT = HTTPS and env.flag("ATELIER_SSL_REDIRECT", True)
SECURE_REDIRECT_EXEMPT = [r"^healthz$"]
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = HTTPS and env.flag("ATELIER_HSTS_SUBDOMAINS")
SECURE_HSTS_PRELOAD = HTTPS and env.flag("ATELIER_HSTS_PRELOAD")
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if env.flag("ATELIER_BEHIND_PROXY") else None
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

# Where the sign-in page of the provider is, or leads to: its own origin, and others that the administrator names.
_OIDC_ORIGINS = ["/".join(OIDC_SERVER.split("/", 3)[:3]), *env.words("ATELIER_OIDC_ORIGINS")] if OIDC_SERVER else []
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:", "blob:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        # Browsers hold the redirect to the sign-in provider, which follows our own form, against this list too.
        "form-action": [SELF, *_OIDC_ORIGINS],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
        "manifest-src": [SELF],
    }
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": env.text("ATELIER_LOG_LEVEL", "INFO").upper()},
    # The reconciling beat runs twice a second: what goes well need not be written down each time.
    # What speaks to datastores would write signed addresses and headers down when asked for every detail.
    "loggers": {
        name: {"level": "WARNING"}
        for name in (
            *("celery.app.trace", "celery.worker.strategy", "celery.beat"),
            *("urllib3", "requests", "aiohttp", "botocore", "aiobotocore", "s3fs", "azure", "fsspec"),
        )
    },
}
