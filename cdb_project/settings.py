"""The one settings file. Everything comes from typed readers; an unknown or malformed setting stops the start."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import dj_database_url

from apps.bus.orders import SYMBOLS_MAX
from apps.engine import timeouts
from cdb_project import env
from cdb_project.pipeline import ROUTES

BASE_DIR = Path(__file__).resolve().parent.parent

KNOWN_SETTINGS = (
    "CDB_ALLOWED_HOSTS",
    "CDB_ARCHIVE_DAYS",
    "CDB_DATA_DIR",
    "CDB_FAIL",
    "CDB_FAIL_FOLDER",
    "CDB_INGEST_STANDBY",
    "CDB_LOG_LEVEL",
    "CDB_PROCESS_ROLE",
    "CDB_SCREENER",
    "CDB_SEGMENT_DAYS",
    "CDB_SHARD_COUNT",
    "CDB_SYMBOLS",
)
env.refuse_unknown("CDB_", KNOWN_SETTINGS)
env.arm_failpoints()

# --- where things are -------------------------------------------------------------------------------------------------
DATA_DIR = Path(env.read_text("CDB_DATA_DIR", str(BASE_DIR / "var"))).absolute()
SECRETS_DIR = DATA_DIR / "secrets"
SEGMENTS_DIR = DATA_DIR / "segments"
ARCHIVE_DIR = DATA_DIR / "archive"
REPORTS_DIR = DATA_DIR / "reports"
RUNTIME_FILE = DATA_DIR / "runtime.json"
RUNTIME = env.read_runtime(RUNTIME_FILE)

PORT = env.read_int("PORT", int(RUNTIME.get("port", 8000)), minimum=1, maximum=65535)
# Without a stack nothing answers at these addresses; commands that need no server run all the same.
DATABASE_URL = env.read_url(
    "DATABASE_URL",
    str(RUNTIME.get("database_url", "postgresql://cdb@127.0.0.1:1/cdb")),
    schemes=("postgresql", "postgres"),
)
REDIS_URL = env.read_url(
    "REDIS_URL", str(RUNTIME.get("redis_url", "redis://127.0.0.1:1/0")), schemes=("redis", "rediss", "unix")
)

# --- how long market data is kept -------------------------------------------------------------------------------------
ARCHIVE_DAYS = env.read_int("CDB_ARCHIVE_DAYS", 400, minimum=1, maximum=36_500)
SEGMENT_DAYS = env.read_int("CDB_SEGMENT_DAYS", 14, minimum=2, maximum=36_500)

# --- trading defaults of a new session --------------------------------------------------------------------------------
SHARD_COUNT = env.read_int("CDB_SHARD_COUNT", 4, minimum=1, maximum=64)
INGEST_STANDBY = env.read_int("CDB_INGEST_STANDBY", 1, minimum=0, maximum=1)
LIVE_SYMBOLS = env.read_symbols("CDB_SYMBOLS", "BTCUSDT,ETHUSDT,SOLUSDT,XRPUSDT,DOGEUSDT", maximum=SYMBOLS_MAX)
LIVE_SCREENER = env.read_screener("CDB_SCREENER", unless="CDB_SYMBOLS", maximum=SYMBOLS_MAX)
EXCHANGE_REST_URL = "https://api.mexc.com"
EXCHANGE_WS_URL = "wss://wbs-api.mexc.com/ws"

# Events to tasks; services resolve a doorbell by name, so that no app imports the composition root.
PIPELINE_ROUTES = ROUTES


def hash_of_sources(*folders: str) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for folder in folders for path in (BASE_DIR / folder).rglob("*.py")):
        digest.update(path.relative_to(BASE_DIR).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


# Numba does not notice a change in a file that a cached kernel was built from.
ENGINE_HASH = hash_of_sources("apps/engine")
# Workers tell it with their heartbeats: while two versions run together nothing is opened.
CODE_HASH = hash_of_sources("apps", "cdb_project", "workers", "proto")[:16]
# Read by numba at its import; every process that compiles imports these settings first.
os.environ.setdefault("NUMBA_CACHE_DIR", str(DATA_DIR / "numba" / ENGINE_HASH[:16]))

# No order's notional is above it, whatever the limits say: quote currency, from a secret file that no page shows.
ORDER_NOTIONAL_CAP = env.read_secret_amount("ORDER_NOTIONAL_CAP", SECRETS_DIR)

# --- Django -----------------------------------------------------------------------------------------------------------
SECRET_KEY = env.read_secret("DJANGO_SECRET_KEY", SECRETS_DIR)
DEBUG = False
ALLOWED_HOSTS = [host for host in env.read_text("CDB_ALLOWED_HOSTS", "127.0.0.1,localhost,[::1]").split(",") if host]
ROOT_URLCONF = "cdb_project.urls"
ASGI_APPLICATION = "cdb_project.asgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-gb"
USE_I18N = False
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"

PROCESS_ROLE = env.read_choice("CDB_PROCESS_ROLE", "web", ("web", "worker"))

INSTALLED_APPS = [
    "apps.live",  # before unfold: its static files replace two of unfold's (docs/decisions)
    "unfold",
    # Whoever shows no pages need not read them: a fifth of the start.
    "django.contrib.admin" if PROCESS_ROLE == "web" else "django.contrib.admin.apps.SimpleAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "channels",
    "django_prometheus",
    "apps.outbox",
    "apps.market",
    "apps.portfolio",
    "apps.alerts",
    "apps.signals",
    "apps.risk",
    "apps.execution",
    "apps.ops",
    "apps.backtest",
]

MIDDLEWARE = [
    "django_prometheus.middleware.PrometheusBeforeMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "apps.live.static_files.StaticFilesMiddleware",
    "apps.live.middleware.ContentSecurityPolicyMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_prometheus.middleware.PrometheusAfterMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

PASSWORD_HASHERS = ["django.contrib.auth.hashers.Argon2PasswordHasher"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Strict"
SESSION_COOKIE_AGE = 8 * 3600
# Two stacks on one host differ in the port only, and cookies do not know ports.
SESSION_COOKIE_NAME = f"cdb_session_{PORT}"
CSRF_COOKIE_NAME = f"cdb_csrf_{PORT}"
CSRF_COOKIE_SAMESITE = "Strict"
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

STATIC_URL = "/static/"
STATIC_ROOT = DATA_DIR / "static"
NODE_MODULES = BASE_DIR / "requirements" / "npm" / "node_modules"
STATICFILES_FINDERS = [
    "apps.live.finders.NpmFinder",
    "django.contrib.staticfiles.finders.AppDirectoriesFinder",
]
# The live pages and operations are siblings that do not import each other; the pages call these by name.
LIVE_STATE_SOURCE = "apps.ops.selectors.state.read_state"
LIVE_FUNNEL_SOURCE = "apps.ops.selectors.funnel.of_state"
LIVE_WHY_SOURCE = "apps.ops.selectors.standstill.why_line"
STORAGES: dict[str, Any] = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedStaticFilesStorage"},
}

STATEMENT_TIMEOUT_MS = {
    "web": timeouts.POSTGRES_STATEMENT_WEB_MS,
    "worker": timeouts.POSTGRES_STATEMENT_TASK_MS,
}[PROCESS_ROLE]

# --- PostgreSQL -------------------------------------------------------------------------------------------------------
DATABASES: dict[str, Any] = {
    "default": {
        **dj_database_url.parse(DATABASE_URL, engine="django.db.backends.postgresql"),
        # ASGI serves each request in a thread of its own, so a kept connection would never be found again.
        "CONN_MAX_AGE": 0 if PROCESS_ROLE == "web" else 60,
        "CONN_HEALTH_CHECKS": True,
    },
}
DATABASES["default"].setdefault("OPTIONS", {}).update(
    connect_timeout=timeouts.POSTGRES_CONNECT_SECONDS,
    keepalives_idle=10,
    keepalives_interval=5,
    keepalives_count=3,
    tcp_user_timeout=timeouts.POSTGRES_TCP_USER_TIMEOUT_MS,
    options=(
        f"-c lock_timeout={timeouts.POSTGRES_LOCK_MS}"
        f" -c statement_timeout={STATEMENT_TIMEOUT_MS}"
        f" -c idle_in_transaction_session_timeout={timeouts.POSTGRES_IDLE_IN_TRANSACTION_MS}"
        f" -c client_connection_check_interval={timeouts.POSTGRES_CLIENT_CHECK_MS}"
    ),
)

# --- Celery (why each: docs/decisions, stack settings) ----------------------------------------------------------------
CELERY_BROKER_URL = REDIS_URL
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": timeouts.CELERY_VISIBILITY_SECONDS,
    "unacked_restore_interval": timeouts.CELERY_RESTORE_INTERVAL_SECONDS,
    "unacked_restore_throttle": 1,
    "socket_timeout": timeouts.BROKER_SOCKET_SECONDS,
    "socket_connect_timeout": timeouts.BROKER_CONNECT_SECONDS,
    "socket_keepalive": True,
    "health_check_interval": timeouts.BROKER_HEALTH_CHECK_SECONDS,
}
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_SERIALIZER = "json"
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_TASK_RETRY_ON_WORKER_LOST = True
# Celery would wait three minutes, longer than a message may stay invisible.
CELERY_TASK_ANNOTATIONS = {"*": {"default_retry_delay": timeouts.CELERY_RETRY_DELAY_SECONDS}}
# A mute broker would hold a sender for four socket timeouts, longer than a task may last, and get every message twice.
CELERY_TASK_PUBLISH_RETRY = False
CELERY_TASK_IGNORE_RESULT = True
CELERY_RESULT_BACKEND = None
CELERY_TASK_SOFT_TIME_LIMIT = timeouts.CELERY_SOFT_LIMIT_SECONDS
CELERY_TASK_TIME_LIMIT = timeouts.CELERY_HARD_LIMIT_SECONDS
CELERY_TASK_DEFAULT_QUEUE = "misc"
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = True
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = timeouts.CELERY_SOFT_SHUTDOWN_SECONDS
CELERY_WORKER_ENABLE_SOFT_SHUTDOWN_ON_IDLE = True
# Nobody may revoke a worker's tasks or stop it through the broker, and the connection that such commands would come by
# has left workers deaf: after a loss its reader waits without end (docs/stack-findings.md).
CELERY_WORKER_ENABLE_REMOTE_CONTROL = False
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_SEND_TASK_EVENTS = True
CELERY_TASK_SEND_SENT_EVENT = False
CELERY_DB_REUSE_MAX = 500
CELERY_TIMEZONE = "UTC"

# --- Channels ---------------------------------------------------------------------------------------------------------
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        # redis-py 8 would end every idle socket after 5 s without this (finding 1 of `make test-stack`).
        "CONFIG": {"hosts": [{"address": REDIS_URL, "socket_timeout": None, "health_check_interval": 15}]},
    },
}

# --- logging: one line per event, to stderr, where the process manager keeps it ---------------------------------------
LOG_LEVEL = env.read_choice("CDB_LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR"))
LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name} {message}", "style": "{"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": LOG_LEVEL},
    "loggers": {"celery.app.trace": {"level": "WARNING"}, "celery.worker.strategy": {"level": "WARNING"}},
}

from cdb_project.unfold import UNFOLD  # noqa: E402, F401  (the admin's looks; kept apart because it is long and not configuration)
