# shellcheck shell=bash
# Stops the cluster and takes back every change it made to the machine: processes, mounts, network
# devices, iptables rules, kernel settings, control groups, files. What others added is left alone.

cmd_down() {
  local purge=
  case ${1:-} in
    '') ;;
    --purge) purge=yes ;;
    *) die "unknown argument: $1" ;;
  esac
  need_root
  check_state_dir
  if [ ! -d "$STATE" ]; then
    say "there is no cluster in $STATE"
    return
  fi
  lock
  trap step_failed EXIT
  step "processes"
  stop_everything
  step "mounts, network, iptables, kernel settings"
  clear_pod_remains
  clear_network
  restore_host_settings
  remove_cgroups
  step "state"
  remove_state $purge
  step_done
  trap - EXIT
  if [ -n "$purge" ]; then
    say "the cluster and its images are gone"
  else
    say "the cluster is gone; loaded images are kept (delete them with: down --purge)"
  fi
}

stop_everything() {
  # The kubelet first, or it would restart what is stopped next. No pod gets its grace period: its
  # state is about to be deleted.
  stop 3 kubelet kube-proxy kube-controller-manager kube-scheduler provisioner coredns deviceplugin
  kill_all KILL kubepods
  stop 5 containerd
  # The API server would drain its watches for a minute.
  kill_all KILL
  wait_for 60 none_left || die "these processes do not end: $(cgroup_pids | tr '\n' ' ')"
}

# What dead pods leave behind: their processes, mounts, network namespaces, shim sockets and the
# cached results of the CNI plugins, the last two in folders that are not ours alone.
clear_pod_remains() {
  local socket
  kill_all KILL kubepods
  wait_for 60 none_left kubepods || die "pod processes do not end"
  if [ -d /var/lib/cni/results ]; then
    find /var/lib/cni/results -name "$POD_NETWORK-*" -delete
    rmdir --ignore-fail-on-non-empty -p /var/lib/cni/results 2>/dev/null || true
  fi
  # A socket file that no process listens on; a killed shim's bundle may be gone already.
  for socket in /run/containerd/s/*; do
    if [ -S "$socket" ] && ! grep -qF " $socket" /proc/net/unix; then rm -f "$socket"; fi
  done
  rmdir --ignore-fail-on-non-empty /run/containerd/s /run/containerd 2>/dev/null || true
  unmount_below "$RUN"
  rm -rf --one-file-system "$RUN/containerd" "$RUN/runc" "$RUN/cni-addresses"
}

unmount_below() { # DIR
  local mounted
  # Newest first, so that nested mounts go before what they are mounted on.
  while read -r mounted; do
    umount "$mounted" 2>/dev/null || umount -l "$mounted" || true
  done < <(mounts_below "$1" | tac)
  [ -z "$(mounts_below "$1")" ] || die "still mounted: $(mounts_below "$1" | tr '\n' ' ')"
}

mounts_below() { # DIR
  awk -v dir="$1/" 'index($5, dir) == 1 { print $5 }' /proc/self/mountinfo | while read -r m; do printf '%b\n' "$m"; done
}

clear_network() {
  local bin
  bin=$(cat "$RUN/bin" 2>/dev/null || bin_dir 2>/dev/null || true)
  mkdir -p "$LOG"
  if [ -x "$bin/kube-proxy" ]; then
    if ! "$bin/kube-proxy" --cleanup >"$LOG/kube-proxy-cleanup.log" 2>&1; then
      warn "kube-proxy --cleanup failed; removing its chains here"
    fi
  fi
  clear_rules iptables
  clear_rules ip6tables
  ip link del "$POD_BRIDGE" 2>/dev/null || true
  ip link del "$NODE_BRIDGE" 2>/dev/null || true
}

# Rules with our comment or our pod network's name; the port mapping's chains that only those used;
# and every KUBE- chain, since `up` refuses to run beside another kubelet.
clear_rules() { # iptables|ip6tables
  local table saved
  command -v "$1-save" >/dev/null || return 0
  saved=$("$1-save" 2>/dev/null) || return 0
  for table in nat filter mangle; do
    grep -q "^\*$table" <<<"$saved" || continue
    delete_rules "$1" $table "($RULE_COMMENT|\"?$POD_NETWORK)"
    delete_rules "$1" $table '-j KUBE-'
    delete_chains "$1" $table '^:KUBE-'
    [ $table != nat ] || clear_port_mapping "$1"
  done
}

clear_port_mapping() { # iptables|ip6tables
  local chain
  for chain in $("$1-save" -t nat | sed -n 's/^:\(CNI-DN-[^ ]*\).*/\1/p'); do
    # One per pod: ours have lost the rule that led there.
    "$1-save" -t nat | grep -q -- "-j $chain\$" || delete_chains "$1" nat "^:$chain "
  done
  if ! "$1-save" -t nat | grep -q '^:CNI-DN-'; then
    delete_rules "$1" nat '-j CNI-HOSTPORT-'
    delete_chains "$1" nat '^:CNI-HOSTPORT-'
  fi
}

delete_rules() { # iptables|ip6tables TABLE PATTERN
  # xargs understands the quotes that iptables-save prints.
  "$1-save" -t "$2" | { grep -E "^-A .*$3" || true; } | sed 's/^-A /-D /' | xargs -r -L1 "$1" -w -t "$2" || true
}

delete_chains() { # iptables|ip6tables TABLE PATTERN
  local chain chains
  chains=$("$1-save" -t "$2" | grep -E "$3" | sed 's/^:\([^ ]*\).*/\1/' || true)
  for chain in $chains; do "$1" -w -t "$2" -F "$chain"; done
  for chain in $chains; do "$1" -w -t "$2" -X "$chain"; done
}

restore_host_settings() {
  local setting
  [ -e "$STATE/host-settings" ] || return 0
  while IFS= read -r setting; do
    [ "$(sysctl -n "${setting%%=*}" 2>/dev/null)" = "${setting#*=}" ] || sysctl -qw "$setting" 2>/dev/null || true
  done <"$STATE/host-settings"
}

remove_state() { # [purge]
  unmount_below "$STATE"
  find /var/log/containers -maxdepth 1 -lname "$LOG/*" -delete 2>/dev/null || true
  # Made by the kubelet whatever its root directory is.
  rm -f /var/lib/kubelet/device-plugins/{kubelet.sock,"${DEVICE_RESOURCE/\//-}.sock",kubelet_internal_checkpoint}
  rmdir --ignore-fail-on-non-empty /var/log/containers /var/lib/kubelet/device-plugins /var/lib/kubelet 2>/dev/null || true
  if [ -n "${1:-}" ]; then
    rm -rf --one-file-system "$STATE"
  else
    local entry
    for entry in etcd kubelet volumes pki kubeconfig config log run host-settings; do
      rm -rf --one-file-system "${STATE:?}/$entry"
    done
    # The pods' file systems; the images' are elsewhere in containerd's folder.
    rm -rf --one-file-system "$STATE"/containerd/io.containerd.grpc.v1.cri/{containers,sandboxes}
  fi
}
