#!/bin/sh
# Works the lock files out anew, all of one mind: the smaller ones are held to dev.lock.
set -eu
lock() {
    name=$1
    shift
    .venv/bin/uv pip compile -q pyproject.toml --universal --python-version 3.11 \
        --generate-hashes --no-header "$@" -o "requirements/$name.lock"
}
lock dev --all-extras --upgrade
lock gateway --extra edge -c requirements/dev.lock
lock central --extra central -c requirements/dev.lock
lock demo --extra edge --extra central --extra simulated -c requirements/dev.lock
