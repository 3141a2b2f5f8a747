# shellcheck shell=bash disable=SC2034 # used in the other files
# Names, addresses and paths that the other files share, and how messages look.
# Nothing here changes the machine.

STATE=${QWENSFT_CLUSTER_DIR:-/var/lib/qwensft-local-cluster}
CACHE=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/qwensft/local-cluster
RUN=$STATE/run
LOG=$STATE/log
PKI=$STATE/pki
CONFIG=$STATE/config
KUBECONFIGS=$STATE/kubeconfig
CONTAINERD_SOCKET=$RUN/containerd.sock

NODE_NAME=local
NODE_IP=10.250.0.1
NODE_BRIDGE=qsft-node
POD_BRIDGE=qsft-pods
POD_NETWORK=qwensft-pods
POD_CIDR=10.244.0.0/16
SERVICE_CIDR=10.96.0.0/16
SERVICE_IP=10.96.0.1
# Marks our own iptables rules, so that `down` removes those and no others.
RULE_COMMENT=qwensft-local-cluster

BASE_IMAGE=localhost/qwensft/base:bookworm
PAUSE_IMAGE=localhost/qwensft/pause:1
# What the device plugin offers.
DEVICE_RESOURCE=nvidia.com/gpu
DEVICE_COUNT=4

say() { printf '%s\n' "$*"; }
warn() { printf 'warning: %s\n' "$*" >&2; }
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# announce TITLE: tells a program that reads this output (quickstart/parts.py) what begins now. People at a
# terminal see that by the unfinished line.
announce() { [ -t 1 ] || printf '== step: %s\n' "$1"; }

# step DESCRIPTION: ends the line before with its duration, so each step is one finished line.
STEP_STARTED=
step() {
  step_done
  STEP_STARTED=$EPOCHREALTIME
  announce "$1"
  printf '  %-44s ' "$1"
}
step_done() {
  [ -n "$STEP_STARTED" ] || return 0
  awk -v from="$STEP_STARTED" -v to="$EPOCHREALTIME" 'BEGIN { printf "%.1fs\n", to - from }'
  STEP_STARTED=
}
step_failed() {
  [ -z "$STEP_STARTED" ] || printf 'failed\n'
  STEP_STARTED=
}

# follow LABEL LOG COMMAND...: on a terminal a ticking clock, otherwise a line when it begins and one when it has ended
follow() {
  local label=$1 log=$2 began=$SECONDS pid
  shift 2
  announce "$label"
  "$@" >"$log" 2>&1 &
  pid=$!
  # An interrupted build must not go on in the background.
  # shellcheck disable=SC2064
  trap "kill $pid 2>/dev/null; exit 130" INT TERM
  while [ -t 1 ] && kill -0 $pid 2>/dev/null; do
    printf '\r%s ... %s ' "$label" "$(minutes $((SECONDS - began)))"
    sleep 1
  done
  if ! wait $pid; then
    [ ! -t 1 ] || printf '\n'
    tail -n 30 "$log" >&2
    die "$label failed; the whole log: $log"
  fi
  trap - INT TERM
  if [ -t 1 ]; then printf '\r'; fi
  printf '%s ... %s \n' "$label" "$(minutes $((SECONDS - began)))"
  rm -f "$log"
}

minutes() { # SECONDS -> 4m10s
  if [ "$1" -ge 60 ]; then printf '%dm%02ds' $(($1 / 60)) $(($1 % 60)); else printf '%ds' "$1"; fi
}

need_root() { [ "$(id -u)" = 0 ] || die "this command needs root (network namespaces, mounts, cgroups)"; }

need() { # COMMAND...
  local c
  for c in "$@"; do
    command -v "$c" >/dev/null || die "$c is missing; run: $LC_DIR/cluster install-deps"
  done
}

check_state_dir() {
  [[ $STATE == /* ]] || die "QWENSFT_CLUSTER_DIR must be an absolute path: $STATE"
  [[ ! $STATE =~ [[:space:]\"\'] ]] || die "QWENSFT_CLUSTER_DIR must not contain spaces or quotes: $STATE"
  [[ $STATE =~ ^/[^/]+/.+ && ! $STATE =~ (^|/)\.\.?(/|$) ]] || die "QWENSFT_CLUSTER_DIR is too near the root: $STATE"
  # Unix socket paths end at 107 bytes.
  [ ${#STATE} -le 60 ] || die "QWENSFT_CLUSTER_DIR is longer than 60 characters: $STATE"
  if [ -d "$STATE" ] && [ ! -e "$STATE/.qwensft-local-cluster" ] && [ -n "$(ls -A "$STATE")" ]; then
    die "$STATE exists and is not a local cluster's directory"
  fi
}

# One command at a time changes the cluster; the lock goes with the process that holds it.
lock() {
  check_state_dir
  mkdir -p "$STATE"
  : >"$STATE/.qwensft-local-cluster"
  exec 9>"$STATE/.lock"
  if ! flock -n 9; then
    announce "waiting for another cluster command to finish"
    say "waiting for another cluster command to finish"
    flock 9
  fi
}

kubectl_admin() { "$BIN/kubectl" --kubeconfig "$KUBECONFIGS/admin.kubeconfig" "$@"; }

ctr_k8s() { "$BIN/ctr" --address "$CONTAINERD_SOCKET" --namespace k8s.io "$@"; }

# http_ok HOST PORT PATH, without needing curl
http_ok() {
  local line
  exec 8<>"/dev/tcp/$1/$2" || return 1
  printf 'GET %s HTTP/1.0\r\n\r\n' "$3" >&8
  IFS= read -r -t 2 line <&8 || line=
  exec 8>&-
  [[ $line == *" 200 "* ]]
} 2>/dev/null

# wait_for SECONDS COMMAND...: polls until the command succeeds
wait_for() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $deadline ] || return 1
    sleep 0.2
  done
}
