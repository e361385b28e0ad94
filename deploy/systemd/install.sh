#!/bin/sh
# Installs fhirwall as a service: its user, its directories, the binary, the unit. Starts nothing.
# Usage: install.sh BINARY        (PREFIX=/usr/local, ROOT= for a staged tree)
set -eu

binary=${1:?usage: install.sh BINARY}
prefix=${PREFIX:-/usr/local}
root=${ROOT:-}
here=$(cd "$(dirname "$0")" && pwd)

[ -x "$binary" ] || { echo "install.sh: $binary is no program" >&2; exit 2; }
if [ -z "$root" ]; then
    [ "$(id -u)" = 0 ] || { echo "install.sh: run as root" >&2; exit 2; }
    getent group fhirwall >/dev/null || groupadd --system fhirwall
    getent passwd fhirwall >/dev/null ||
        useradd --system --gid fhirwall --home-dir /var/lib/fhirwall --shell /usr/sbin/nologin fhirwall
    own="-o root -g fhirwall"
    keep="-o fhirwall -g fhirwall"
else
    own=""
    keep=""
fi

# shellcheck disable=SC2086
{
    install -D -m 0755 "$binary" "$root$prefix/bin/fhirwall"
    install -d -m 0750 $own "$root/etc/fhirwall" "$root/etc/fhirwall/partners" "$root/etc/fhirwall/policies"
    install -d -m 0750 $own "$root/etc/fhirwall/tls" "$root/etc/fhirwall/keys"
    install -d -m 0700 $keep "$root/var/lib/fhirwall" "$root/var/lib/fhirwall/audit"
}
for unit in fhirwall.service fhirwall-scan.service fhirwall-scan.timer; do
    sed "s#/usr/local/bin/fhirwall#$prefix/bin/fhirwall#" "$here/$unit" >"$root/.$unit.new"
    install -D -m 0644 "$root/.$unit.new" "$root/etc/systemd/system/$unit"
    rm "$root/.$unit.new"
done

if [ -z "$root" ] && command -v systemctl >/dev/null; then
    systemctl daemon-reload
fi
cat <<END
installed. Next:
  1. write /etc/fhirwall/fhirwall.yaml (docs/configuration.md)
  2. fhirwall check --config /etc/fhirwall/fhirwall.yaml
  3. systemctl enable --now fhirwall
  4. systemctl enable --now fhirwall-scan.timer   # asks every night what stands open beside the gateway
A new binary, with shutdown.upgrade_socket set, without refusing a connection:
     install.sh NEW-BINARY && systemctl kill -s USR2 --kill-whom=main fhirwall
END
