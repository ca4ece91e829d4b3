#!/usr/bin/env bash
# See to it that the tests find MariaDB or MySQL, and print the URLs of servers that run
# already; nothing is printed when the tests can start their own.
#
# In this order: what is installed; Debian's packages, where the user may install them; the
# MySQL servers of docker-compose.yml; else say loudly what will not be run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PATH=$PATH:/usr/sbin:/usr/local/sbin

installed() {
  command -v mariadbd >/dev/null || command -v mysqld >/dev/null
}

as_root() {
  if [[ $(id -u) == 0 ]]; then
    "$@"
  else
    sudo --non-interactive "$@"
  fi
}

may_install() {
  command -v apt-get >/dev/null && as_root true 2>/dev/null
}

apt_install() {
  # RUNLEVEL=1 keeps packages from starting their service.
  as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
    apt-get install --yes --no-install-recommends "$@" </dev/null >&2
}

install() {
  echo "Installing MariaDB from the distribution's packages." >&2
  as_root apt-get update --quiet </dev/null >&2 || true
  # The programs alone, without a system service; older releases have only the full package.
  apt_install mariadb-server-core mariadb-client-core || apt_install mariadb-server
}

compose() {
  docker info >/dev/null 2>&1 || return 1
  echo "Starting the MySQL servers of docker-compose.yml." >&2
  docker compose up --detach --wait mysql0 mysql1 >&2 || return 1
  local password=${ROUTER_DB_PASSWORD:-router}
  echo "mysql+pymysql://app:$password@127.0.0.1:33061/app,mysql+pymysql://app:$password@127.0.0.1:33062/app"
}

installed && exit 0
if may_install && install && installed; then
  exit 0
fi
compose && exit 0

cat >&2 <<'TEXT'
********************************************************************************
  NOT RUN: all tests that need MariaDB or MySQL.
  No server is installed, this user may not install one, and no docker answers.
  Install the package mariadb-server, or start docker, and run this again.
********************************************************************************
TEXT
