"""Django's settings; database and storage are those of cutwork, from the same variables."""

import os
import secrets

from sqlalchemy import make_url

import cutwork

CUTWORK = cutwork.Settings.load(os.environ)

ENGINES = {
    "sqlite": "django.db.backends.sqlite3",
    "postgresql": "django.db.backends.postgresql",
    "mariadb": "django.db.backends.mysql",
    "mysql": "django.db.backends.mysql",
}
# A transaction that reads first and writes later needs SQLite's lock from its beginning.
OPTIONS = {"sqlite": {"transaction_mode": "IMMEDIATE", "timeout": 30}}

_url = make_url(CUTWORK.database)
_kind = _url.get_backend_name()
DATABASES = {
    "default": {
        "ENGINE": ENGINES[_kind],
        "NAME": _url.database,
        "USER": _url.username or "",
        "PASSWORD": _url.password or "",
        "HOST": _url.host or _url.query.get("host", ""),
        "PORT": str(_url.port or ""),
        "OPTIONS": OPTIONS.get(_kind, {}),
    }
}

# Set your own where several processes serve, or people log in.
SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY") or secrets.token_urlsafe(32)
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["shop"]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
]
ROOT_URLCONF = "shop.urls"
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
USE_TZ = True
