#!/usr/bin/env bash
# Installs a Redis or Valkey server for the tests, which start and stop it themselves. Debian's redis-tools contains the
# server's program too and, unlike redis-server, starts no service.
. "$(dirname "$0")/common.sh"
for server in redis-server valkey-server redis-check-rdb; do has "$server" && exit 0; done
apt_install redis-tools ||
    die "no Redis found for the tests: install Redis or Valkey with your package manager (brew install redis, dnf install valkey)"
