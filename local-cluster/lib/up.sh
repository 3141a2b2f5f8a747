# shellcheck shell=bash
# Starts what is missing, in order, and waits until it works. The same steps serve a first start, a
# repair after processes were killed and a start after a reboot: each looks before it acts.

HOST_SETTINGS=(
  net.ipv4.ip_forward net.bridge.bridge-nf-call-iptables net.bridge.bridge-nf-call-ip6tables
  fs.inotify.max_user_instances
  # The kubelet and kube-proxy change these:
  vm.overcommit_memory vm.panic_on_oom kernel.panic kernel.panic_on_oops kernel.keys.root_maxkeys
  kernel.keys.root_maxbytes net.ipv4.conf.all.route_localnet net.ipv4.vs.conntrack
)

cmd_up() {
  need_root
  need runc iptables conntrack ip openssl flock setsid
  [ -x "$CNI_DIR/bridge" ] || die "the CNI plugins are missing; run: $LC_DIR/cluster install-deps"
  lock
  if healthy; then
    [ "$BIN" = "$(bin_dir)" ] || say "note: its binaries are older than the sources; 'down' and 'up' change them"
    say "the cluster is running (kubectl: eval \"\$($LC_DIR/cluster env)\")"
    return
  fi
  # Binaries from before a component was added lack it: then what is missing is started from new ones.
  if [ -n "$(cgroup_pids system)" ] && use_recorded_bin && has_all_components; then
    say "repairing the cluster in $STATE"
  else
    use_bin
    say "starting the cluster in $STATE"
  fi
  check_no_other_kubernetes
  trap step_failed EXIT
  local began=$SECONDS fresh=
  [ -d "$STATE/etcd/member" ] || fresh=yes
  step "host network, certificates, configuration"
  prepare
  step "etcd, containerd, API server"
  start_component etcd
  start_component kube-apiserver
  start_containerd $fresh
  wait_ready kube-apiserver 300 kubectl_admin get --raw /readyz
  kubectl_admin apply -f "$LC_DIR/manifests" >/dev/null || die "cannot apply $LC_DIR/manifests"
  step "controllers, kubelet, proxy, DNS, volumes, devices"
  local name
  for name in kube-controller-manager kube-scheduler kubelet kube-proxy coredns provisioner deviceplugin; do
    start_component $name
  done
  wait_ready coredns 300 http_ok "$NODE_IP" 8181 /ready
  wait_ready kube-proxy 300 http_ok 127.0.0.1 10256 /healthz
  step "node ready"
  wait_ready kubelet 300 node_schedulable
  wait_ready kube-controller-manager 300 kubectl_admin get serviceaccount default
  wait_ready deviceplugin 300 devices_offered
  step_done
  trap - EXIT
  wait_for 60 healthy || die "the cluster started but is not healthy; see: $LC_DIR/cluster status"
  say "ready after $((SECONDS - began)) s. Use it with: eval \"\$($LC_DIR/cluster env)\""
}

# A running cluster keeps the binaries it was started with.
use_recorded_bin() {
  BIN=$(cat "$RUN/bin" 2>/dev/null) && [ -e "$BIN/.complete" ]
}

has_all_components() {
  local name
  for name in "${COMPONENTS[@]}"; do
    [ -x "$BIN/$name" ] || return 1
  done
}

healthy() {
  local name
  use_recorded_bin || return 1
  for name in "${COMPONENTS[@]}"; do
    running "$name" || return 1
  done
  [ -e "$KUBECONFIGS/admin.kubeconfig" ] && http_ok "$NODE_IP" 8181 /ready && node_schedulable &&
    default_class >/dev/null && devices_offered
}

# Ready, and no longer tainted as not ready.
node_schedulable() {
  [ "$(kubectl_admin get node "$NODE_NAME" --request-timeout 5s \
    -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}{.spec.taints[*].key}' 2>/dev/null)" = True ]
}

devices_offered() { [ "$(offered_devices)" = "$DEVICE_COUNT" ]; }

offered_devices() {
  kubectl_admin get node "$NODE_NAME" --request-timeout 5s -o "jsonpath={.status.allocatable.${DEVICE_RESOURCE//./\\.}}" 2>/dev/null
}

default_class() {
  kubectl_admin get storageclass --request-timeout 5s -o \
    'jsonpath={range .items[?(@.metadata.annotations.storageclass\.kubernetes\.io/is-default-class=="true")]}{.metadata.name}{end}' 2>/dev/null | grep .
}

# wait_ready NAME SECONDS COMMAND...: gives up at once when the component ends
wait_ready() {
  local name=$1 deadline=$((SECONDS + $2))
  shift 2
  until "$@" >/dev/null 2>&1; do
    if not_running "$name" || [ $SECONDS -ge $deadline ]; then
      step_failed
      last_log_lines "$name"
      if running "$name"; then die "$name is not ready in time"; else die "$name ended"; fi
    fi
    sleep 0.2
  done
}

check_no_other_kubernetes() {
  local entry
  for entry in kubelet:10248 kube-proxy:10256 kube-proxy:10249 kube-controller-manager:10257 kube-scheduler:10259; do
    if not_running "${entry%%:*}" && (exec 8<>"/dev/tcp/127.0.0.1/${entry#*:}") 2>/dev/null; then
      die "port ${entry#*:} of 127.0.0.1 is taken: another ${entry%%:*} seems to run on this machine"
    fi
  done
}

prepare() {
  mkdir -p "$RUN" "$LOG"
  echo "$BIN" >"$RUN/bin"
  prepare_host
  make_cgroups
  make_pki
  make_front_proxy
  write_config
}

prepare_host() {
  modprobe -a br_netfilter overlay 2>/dev/null || true
  remember_host_settings
  sysctl -qw net.ipv4.ip_forward=1
  sysctl -qw net.bridge.bridge-nf-call-iptables=1 2>/dev/null || true
  [ "$(sysctl -n fs.inotify.max_user_instances)" -ge 1024 ] || sysctl -qw fs.inotify.max_user_instances=1024
  if ! ip link show "$NODE_BRIDGE" >/dev/null 2>&1; then
    # A bridge: the "dummy" device type is missing from small kernels.
    ip link add "$NODE_BRIDGE" type bridge
  fi
  ip -4 addr show "$NODE_BRIDGE" | grep -q "$NODE_IP/" || ip addr add "$NODE_IP/32" dev "$NODE_BRIDGE"
  ip link set "$NODE_BRIDGE" up
  own_rule nat POSTROUTING -s "$POD_CIDR" ! -d "$POD_CIDR" -j MASQUERADE
  # A Docker engine on the same machine sets the FORWARD policy to DROP.
  own_rule filter FORWARD -i "$POD_BRIDGE" -j ACCEPT
  own_rule filter FORWARD -o "$POD_BRIDGE" -j ACCEPT
}

remember_host_settings() {
  local name value
  [ ! -e "$STATE/host-settings" ] || return 0
  for name in "${HOST_SETTINGS[@]}"; do
    if value=$(sysctl -n "$name" 2>/dev/null); then echo "$name=$value"; fi
  done >"$STATE/host-settings"
}

own_rule() { # TABLE CHAIN RULE...
  local table=$1 chain=$2
  shift 2
  iptables -w -t "$table" -C "$chain" "$@" -m comment --comment "$RULE_COMMENT" 2>/dev/null ||
    iptables -w -t "$table" -I "$chain" "$@" -m comment --comment "$RULE_COMMENT"
}

# A containerd that ended leaves its pods to their shims; the next one takes them over. Only when the
# shims are gone, too, are the remains (mounts, network namespaces, addresses) cleared.
start_containerd() { # [fresh]
  if not_running containerd; then
    pgrep_shims || clear_pod_remains
    rm -f "$CONTAINERD_SOCKET" "$CONTAINERD_SOCKET.ttrpc"
  fi
  start_component containerd
  wait_ready containerd 300 ctr_k8s version
  [ -z "${1:-}" ] || forget_containers
  "$BIN/imageload" -address "$CONTAINERD_SOCKET" pause "$BIN/pause" >/dev/null || die "cannot load the pause image"
}

pgrep_shims() {
  local pid
  for pid in $(cgroup_pids system); do
    case $(readlink "/proc/$pid/exe") in */containerd-shim-runc-v2*) return 0 ;; esac
  done
  return 1
}

# Containers of a cluster whose etcd is gone: the image store outlived it.
forget_containers() {
  local id
  for id in $(ctr_k8s tasks ls -q); do ctr_k8s tasks rm -f "$id" || true; done
  for id in $(ctr_k8s containers ls -q); do ctr_k8s containers rm "$id" || true; done
  for id in $(ctr_k8s sandboxes ls | awk 'NR > 1 { print $1 }'); do ctr_k8s sandboxes rm --force "$id" || true; done
} >>"$LOG/forget-containers.log" 2>&1
