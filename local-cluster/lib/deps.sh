# shellcheck shell=bash
# The programs from Debian that the cluster needs, and the check for Go.

# command:package
DEPENDENCIES=(
  runc:runc
  buildah:buildah
  mmdebstrap:mmdebstrap
  iptables:iptables
  conntrack:conntrack
  openssl:openssl
  ip:iproute2
  mount:mount
  setsid:util-linux
  modprobe:kmod
)
CNI_DIR=/usr/lib/cni

cmd_install_deps() {
  local entry missing=()
  for entry in "${DEPENDENCIES[@]}"; do
    command -v "${entry%%:*}" >/dev/null || missing+=("${entry#*:}")
  done
  [ -x "$CNI_DIR/bridge" ] || missing+=(containernetworking-plugins)
  [ -e /etc/ssl/certs/ca-certificates.crt ] || missing+=(ca-certificates)
  if [ ${#missing[@]} -gt 0 ]; then
    need_root
    command -v apt-get >/dev/null || die "missing: ${missing[*]}; install them with this system's package manager"
    announce "installing ${missing[*]}"
    say "installing ${missing[*]}"
    apt_install "${missing[@]}" || {
      apt-get update -qq
      apt_install "${missing[@]}"
    }
  else
    say "all packages are installed"
  fi
  check_go
}

apt_install() {
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

wanted_go() { awk '$1 == "go" { print $2; exit }' "$LC_DIR/go.mod"; }

check_go() {
  local wanted have
  wanted=$(wanted_go)
  command -v go >/dev/null || die "Go $wanted or newer is missing. Debian 12 has none that new: take the archive from the downloads page of the Go project, unpack it to /usr/local and put /usr/local/go/bin in PATH"
  have=$(cd "$LC_DIR" && go env GOVERSION 2>&1) || die "Go $wanted or newer is needed: $have"
  [ "$(printf '%s\n%s\n' "$wanted" "${have#go}" | sort -V | head -n 1)" = "$wanted" ] || die "Go $wanted or newer is needed, this is $have"
}
