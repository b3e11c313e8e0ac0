"""Puts a new login of Nous into auth.json, if the one in it is dead for good.

    HERMES_AUTH_JSON_REBOOTSTRAP='{"providers": {"nous": {...}}}' \\
        python docker_rebootstrap_nous_session.py AUTH_JSON

Only the entry of the provider `nous` is replaced. A login that works, or that may work again by
itself, stays. Ends with 1 if the variable holds no such entry; then nothing was changed.
"""

import json
import os
import pathlib
import stat
import sys

# Bytes of a file of logins at the most.
MAX_BYTES = 1 << 20
VARIABLE = "HERMES_AUTH_JSON_REBOOTSTRAP"


def say(text):
    print(f"renewing the login: {text}", flush=True)


def is_dead(login):
    """Returns whether Hermes gave this login up: it took the tokens out and asks for a new one."""
    if not isinstance(login, dict):
        return False
    error = login.get("last_auth_error")
    wants_new = isinstance(error, dict) and error.get("relogin_required") is True
    return wants_new and not (login.get("access_token") or login.get("refresh_token"))


def offered():
    """Returns the entry that the variable holds, or None."""
    try:
        document = json.loads(os.environ.get(VARIABLE, ""))
    except ValueError:
        return None
    providers = document.get("providers") if isinstance(document, dict) else None
    login = providers.get("nous") if isinstance(providers, dict) else None
    has_token = isinstance(login, dict) and (login.get("access_token") or login.get("refresh_token"))
    return login if has_token else None


def main():
    path = pathlib.Path(sys.argv[1])
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_BYTES:
        say(f"{path.name} is no small regular file, so it stays as it is")
        return 1
    # Hermes' own reading and writing: whole or not at all, locked, mode 600.
    from hermes_cli.auth import _auth_store_lock, _load_auth_store, _save_auth_store

    with _auth_store_lock():
        store = _load_auth_store(path)
        if not is_dead(store.get("providers", {}).get("nous")):
            return 0
        login = offered()
        if login is None:
            say(f"`{VARIABLE}` holds no login of Nous with a token, so the dead one stays")
            return 1
        store["providers"]["nous"] = login
        _save_auth_store(store, path)
    say("the dead login of Nous was replaced")
    return 0


if __name__ == "__main__":
    sys.exit(main())
