# shellcheck shell=bash
# Starts and stops the cluster's processes. All of them, and all pods, live in one cgroup tree that
# only this cluster uses: membership proves that a process is ours, even when its record is lost.

# shellcheck disable=SC2034 # used in the other files
COMPONENTS=(etcd containerd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy coredns provisioner deviceplugin)

# The tree is named after the state directory, so two clusters' trees never mix.
cgroup_name() { printf 'qwensft-%.8s' "$(printf '%s' "$STATE" | sha256sum)"; }

# Every mounted hierarchy (several with cgroup v1, one with v2).
cgroup_mounts() { awk '($3 == "cgroup" || $3 == "cgroup2") && !seen[$2]++ { print $2 }' /proc/mounts; }

# The one hierarchy whose membership lists we read.
cgroup_tracking() {
  local m
  for m in /sys/fs/cgroup/pids /sys/fs/cgroup/freezer /sys/fs/cgroup; do
    if [ -e "$m/cgroup.procs" ]; then
      printf '%s/%s' "$m" "$(cgroup_name)"
      return
    fi
  done
  die "no usable cgroup hierarchy under /sys/fs/cgroup"
}

make_cgroups() {
  local m dir
  while read -r m; do
    dir=$m/$(cgroup_name)
    if [ -e "$m/cgroup.subtree_control" ]; then
      enable_controllers "$m"
      mkdir -p "$dir"
      enable_controllers "$dir"
    else
      mkdir -p "$dir" 2>/dev/null || continue
      if [ -e "$dir/cpuset.cpus" ]; then
        cat "$m/cpuset.cpus" >"$dir/cpuset.cpus"
        cat "$m/cpuset.mems" >"$dir/cpuset.mems"
      fi
    fi
  done < <(cgroup_mounts)
  SYSTEM_CGROUP=$(cgroup_tracking)/system
  mkdir -p "$SYSTEM_CGROUP"
}

enable_controllers() { # DIR (cgroup v2)
  local c controllers
  read -ra controllers <"$1/cgroup.controllers" || true
  for c in "${controllers[@]}"; do
    echo "+$c" >"$1/cgroup.subtree_control" || true
  done 2>/dev/null
}

remove_cgroups() {
  local m dir
  while read -r m; do
    dir=$m/$(cgroup_name)
    [ ! -d "$dir" ] || find "$dir" -depth -type d -exec rmdir {} + 2>/dev/null || true
  done < <(cgroup_mounts)
}

# cgroup_pids [SUBTREE]: the ids of all our processes
cgroup_pids() {
  local dir
  dir=$(cgroup_tracking)${1:+/$1}
  [ -d "$dir" ] || return 0
  find "$dir" -name cgroup.procs -exec cat {} + 2>/dev/null | sort -un
}

kill_all() { # SIGNAL [SUBTREE]
  local pids
  mapfile -t pids < <(cgroup_pids "${2:-}")
  [ ${#pids[@]} -eq 0 ] || kill "-$1" "${pids[@]}" 2>/dev/null || true
}

none_left() { [ -z "$(cgroup_pids "${1:-}")" ]; }

# Field 22 of /proc/PID/stat, counted after the command's name, which may hold spaces.
start_time() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }

# start NAME COMMAND...: in the background, outliving this script; does nothing when it runs
start() {
  local name=$1 log=$LOG/$1.log
  shift
  ! running "$name" || return 0
  if [ -e "$log" ] && [ "$(stat -c %s "$log")" -gt 20000000 ]; then mv "$log" "$log.old"; fi
  (
    exec 9>&- # the lock is this script's, not the component's
    echo "$BASHPID" >"$SYSTEM_CGROUP/cgroup.procs"
    ulimit -n 65536 2>/dev/null || true
    cd /
    PATH=$BIN:$PATH exec setsid "$@"
  ) </dev/null >>"$log" 2>&1 &
  echo "$! $(start_time $!) $(cat /proc/sys/kernel/random/boot_id)" >"$RUN/$name.pid"
}

# pid_of NAME: its process id, if the process that we started is still that process
pid_of() {
  local pid started boot
  read -r pid started boot 2>/dev/null <"$RUN/$1.pid" || return 1
  [ "$boot" = "$(</proc/sys/kernel/random/boot_id)" ] || return 1
  [ "$started" = "$(start_time "$pid")" ] || return 1
  [ "$(process_state "$pid")" != Z ] || return 1
  echo "$pid"
}

process_state() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -c1; }

running() { pid_of "$1" >/dev/null; }

# stop SECONDS NAME...: asks all at once, then insists
stop() {
  local seconds=$1 name pid
  shift
  for name in "$@"; do
    if pid=$(pid_of "$name"); then kill -TERM "$pid" 2>/dev/null || true; fi
  done
  for name in "$@"; do
    wait_for "$seconds" not_running "$name" || kill -KILL "$(pid_of "$name")" 2>/dev/null || true
    wait_for 5 not_running "$name" || warn "$name does not stop"
    rm -f "$RUN/$name.pid"
  done
}

not_running() { ! running "$1"; }

last_log_lines() { # NAME
  say "last lines of $LOG/$1.log:" >&2
  tail -n 12 "$LOG/$1.log" 2>/dev/null | cut -c1-400 | sed 's/^/    /' >&2
}

# Ends components as a crash would, for tests; `up` starts them again.
cmd_kill() { # NAME...
  local name pid
  need_root
  [ $# -gt 0 ] || die "name a component: ${COMPONENTS[*]}"
  for name in "$@"; do
    [[ " ${COMPONENTS[*]} " == *" $name "* ]] || die "no component is called $name: ${COMPONENTS[*]}"
    pid=$(pid_of "$name") || die "$name does not run"
    kill -KILL "$pid"
    wait_for 10 not_running "$name" || die "$name does not end"
  done
}
