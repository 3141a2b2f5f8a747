# shellcheck shell=bash
# What the cluster looks like from outside: status, kubeconfig, env, bin.

cmd_status() {
  local name pid well=0
  check_state_dir
  if ! use_recorded_bin || [ ! -e "$KUBECONFIGS/admin.kubeconfig" ]; then
    say "no cluster in $STATE (start one with: $LC_DIR/cluster up)"
    return 1
  fi
  printf '%-26s %-9s %9s %8s\n' COMPONENT STATE PID MEMORY
  for name in "${COMPONENTS[@]}"; do
    if pid=$(pid_of "$name"); then
      printf '%-26s %-9s %9s %5d MB\n' "$name" running "$pid" "$(resident_mb "$pid")"
    else
      printf '%-26s %-9s\n' "$name" "not running"
      well=1
    fi
  done
  say ""
  if ! status_api; then well=1; fi
  if [ $well = 0 ]; then say "the cluster is healthy"; else say "the cluster is NOT healthy; repair it with: $LC_DIR/cluster up"; fi
  return $well
}

resident_mb() { awk '$1 == "VmRSS:" { print int($2 / 1024) }' "/proc/$1/status"; }

status_api() {
  local node version class
  if ! version=$(kubectl_admin version --request-timeout 5s 2>/dev/null | sed -n 's/^Server Version: //p'); then
    say "API server       not answering"
    return 1
  fi
  say "Kubernetes       $version at https://$NODE_IP:6443"
  node=$(kubectl_admin get node "$NODE_NAME" --no-headers --request-timeout 5s 2>/dev/null | awk '{ print $1 ": " $2 ", kubelet " $5 }') || true
  say "node             ${node:-not registered}"
  class=$(default_class) || true
  say "storage class    ${class:-no default}"
  say "devices          $(offered_devices || true) $DEVICE_RESOURCE, with nothing behind them"
  if http_ok "$NODE_IP" 8181 /ready; then say "DNS              answering on $NODE_IP"; else say "DNS              not answering"; fi
  say "images           $(loaded_images | tr '\n' ' ')"
  [ -n "$class" ] && node_schedulable && devices_offered && http_ok "$NODE_IP" 8181 /ready
}

loaded_images() { ctr_k8s images ls -q 2>/dev/null | grep -v '^sha256:'; }

cmd_kubeconfig() {
  [ -e "$KUBECONFIGS/admin.kubeconfig" ] || die "no cluster in $STATE; start one with: $LC_DIR/cluster up"
  say "$KUBECONFIGS/admin.kubeconfig"
}

cmd_env() {
  cmd_kubeconfig >/dev/null
  use_recorded_bin || die "the cluster is not running; start it with: $LC_DIR/cluster up"
  printf 'export KUBECONFIG=%q\n' "$KUBECONFIGS/admin.kubeconfig"
  printf 'export CONTAINERD_ADDRESS=%q\nexport CONTAINERD_NAMESPACE=k8s.io\n' "$CONTAINERD_SOCKET"
  # Only the tools for people: not, say, this containerd before the system's own.
  # shellcheck disable=SC2016
  printf 'case ":$PATH:" in *:%q:*) ;; *) export PATH=%q:"$PATH" ;; esac\n' "$BIN/tools" "$BIN/tools"
}

cmd_bin() {
  use_bin >&2
  say "$BIN"
}
