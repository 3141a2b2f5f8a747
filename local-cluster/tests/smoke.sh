#!/usr/bin/env bash
# Proves local-cluster/ against the machine it runs on: starts a cluster of its own state directory,
# uses volumes, DNS, Pod Security and images, kills everything and recovers, stops it, and compares
# processes, mounts, devices, namespaces and iptables rules with those from before. Needs root. Runs in
# a network of its own, so that it neither needs nor disturbs a cluster that runs already.
# The last line reads "N passed, N failed".
set -euo pipefail

DIR=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)
export QWENSFT_CLUSTER_DIR=${QWENSFT_SMOKE_DIR:-/var/lib/qwensft-smoke}
WORK=$(mktemp -d)
# Of this cluster alone, as lib/process.sh names it.
CGROUP=qwensft-$(printf '%s' "$QWENSFT_CLUSTER_DIR" | sha256sum | cut -c1-8)
IMAGE=localhost/qwensft/smoke:1
PASSED=0
FAILED=0

cluster() { "$DIR/cluster" "$@"; }

# check DESCRIPTION COMMAND...
check() {
  local description=$1
  shift
  if "$@" >"$WORK/output" 2>&1; then
    PASSED=$((PASSED + 1))
    printf 'ok    %s\n' "$description"
  else
    FAILED=$((FAILED + 1))
    printf 'FAIL  %s\n' "$description"
    tail -n 25 "$WORK/output" | sed 's/^/      /'
  fi
}

fails() { ! "$@"; }

within() { # SECONDS COMMAND...
  local began=$SECONDS limit=$1
  shift
  "$@" && [ $((SECONDS - began)) -le "$limit" ]
}

eventually() { # SECONDS COMMAND...
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    [ $SECONDS -lt $deadline ] || return 1
    sleep 0.5
  done
}

# Everything a cluster could leave on the machine, with what changes by itself (counters, other
# programs' processes) left out.
machine_state() {
  echo "== cluster processes"
  grep -lzF "$QWENSFT_CLUSTER_DIR" /proc/[0-9]*/cmdline 2>/dev/null | while read -r f; do
    local pid=${f//[^0-9]/}
    case $(readlink "/proc/$pid/exe") in */qwensft/local-cluster/*) tr '\0' ' ' <"$f" && echo ;; esac
  done
  echo "== mounts"
  # Without those of buildah and of the cluster that people use: both come and go meanwhile.
  awk '{ print $5, $9 }' /proc/self/mountinfo | grep -v -e /containers/storage -e '^/var/lib/qwensft-local-cluster/' | sort
  echo "== devices"
  ip -o link | awk '{ print $2 }' | sort
  echo "== network namespaces"
  ls /run/netns 2>/dev/null || true
  local command
  for command in iptables-save ip6tables-save; do
    echo "== $command"
    # Built-in chains that are empty are no rules.
    $command 2>/dev/null | grep -E '^-A|^:[^ ]+ -' | sort || true
  done
  echo "== control groups"
  find /sys/fs/cgroup -type d -name "$CGROUP" 2>/dev/null | sort
  echo "== kernel settings"
  sysctl net.ipv4.ip_forward vm.overcommit_memory vm.panic_on_oom kernel.panic kernel.panic_on_oops \
    net.ipv4.conf.all.route_localnet net.bridge.bridge-nf-call-iptables fs.inotify.max_user_instances 2>/dev/null || true
  echo "== container sockets"
  ls /run/containerd/s /var/log/containers 2>/dev/null || true
}

same_as_before() { machine_state >"$WORK/after" && diff "$WORK/before" "$WORK/after"; }

test_image() {
  cat >"$WORK/Dockerfile" <<'DOCKERFILE'
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
RUN python3 -c "open('/built', 'w').write('first layer')"
RUN python3 -c "open('/marker', 'w').write('one')"
DOCKERFILE
  cluster build-image "$IMAGE" "$WORK"
}

change_last_layer() {
  sed -i "s/'one'/'two'/" "$WORK/Dockerfile"
  cluster build-image "$IMAGE" "$WORK"
}

no_trace_of_machine() {
  local container root
  container=$(buildah from "$IMAGE")
  root=$(buildah mount "$container")
  [ -z "$(ls -A "$root/mnt")" ] && [ -z "$(ls -A "$root/etc/apt/sources.list.d")" ] && [ ! -e "$root/etc/pip.conf" ]
  local result=$?
  buildah rm "$container" >/dev/null
  return $result
}

loads_with() { # TEXT
  cluster load-image "$IMAGE" | tee /dev/stderr | grep -q "$1"
}

apply() { kubectl apply -f - >/dev/null; }

namespaces() {
  apply <<'YAML'
apiVersion: v1
kind: Namespace
metadata:
  name: smoke
  labels: {pod-security.kubernetes.io/enforce: restricted}
YAML
  eventually 20 kubectl -n smoke get serviceaccount default
}

claims() {
  local mode
  for mode in ReadWriteOnce ReadWriteMany; do
    apply <<YAML
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: ${mode,,}, namespace: smoke}
spec: {accessModes: [$mode], resources: {requests: {storage: 1Gi}}}
YAML
  done
  apply <<'YAML'
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: late, namespace: smoke}
spec: {storageClassName: local-wait, accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
YAML
  kubectl -n smoke wait --for=jsonpath='{.status.phase}'=Bound pvc/readwriteonce pvc/readwritemany --timeout=30s
}

# pod NAME COMMAND: non-root, read-only root, fsGroup, all capabilities dropped
pod() {
  apply <<YAML
apiVersion: v1
kind: Pod
metadata: {name: $1, namespace: smoke, labels: {app: smoke}}
spec:
  hostname: $1
  subdomain: smoke
  terminationGracePeriodSeconds: 1
  restartPolicy: ${3:-Never}
  securityContext: {runAsNonRoot: true, runAsUser: 4711, runAsGroup: 4712, fsGroup: 4713, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: main
    image: $IMAGE
    imagePullPolicy: Never
    command: [python3, -c, "${2//$'\n'/\\n}"]
    securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
    volumeMounts:
    - {name: once, mountPath: /once}
    - {name: many, mountPath: /many}
    - {name: late, mountPath: /late}
  volumes:
  - {name: once, persistentVolumeClaim: {claimName: readwriteonce}}
  - {name: many, persistentVolumeClaim: {claimName: readwritemany}}
  - {name: late, persistentVolumeClaim: {claimName: late}}
YAML
}

succeeds() { # POD SECONDS
  kubectl -n smoke wait --for=jsonpath='{.status.phase}'=Succeeded "pod/$1" --timeout="$2s" || {
    kubectl -n smoke describe pod "$1"
    kubectl -n smoke logs "$1"
    return 1
  }
}

writer() {
  pod writer "import os; [open(f'/{d}/file', 'w').write('kept') for d in ('once', 'many', 'late')]; s = os.stat('/once/file'); assert s.st_gid == 4713, s; assert open('/marker').read() == '$1'"
  succeeds writer 60
}

image_volume() {
  apply <<YAML
apiVersion: v1
kind: Pod
metadata: {name: image-volume, namespace: smoke}
spec:
  restartPolicy: Never
  securityContext: {runAsNonRoot: true, runAsUser: 4711, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: main
    image: $IMAGE
    command: [python3, -c, "assert open('/model/marker').read() == 'one'"]
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
    volumeMounts: [{name: model, mountPath: /model}]
  volumes: [{name: model, image: {reference: "$IMAGE"}}]
YAML
  succeeds image-volume 60
}

headless_service() {
  apply <<'YAML'
apiVersion: v1
kind: Service
metadata: {name: smoke, namespace: smoke}
spec: {clusterIP: None, publishNotReadyAddresses: true, selector: {app: smoke}, ports: [{port: 8000}]}
---
apiVersion: v1
kind: Service
metadata: {name: virtual, namespace: smoke}
spec: {selector: {app: smoke}, ports: [{port: 80, targetPort: 8000}]}
YAML
  pod server "import http.server, os; os.chdir('/once'); http.server.test(http.server.SimpleHTTPRequestHandler, port=8000)" Always
  kubectl -n smoke wait --for=condition=Ready pod/server --timeout=60s
}

client() { # NAME
  pod "$1" "import time, urllib.request as u
for url in ('http://server.smoke:8000/file', 'http://virtual.smoke.svc.cluster.local/file'):
    for attempt in range(60):
        try:
            assert u.urlopen(url, timeout=2).read() == b'kept'; break
        except OSError: time.sleep(0.5)
    else: raise SystemExit(url)"
  succeeds "$1" 90
}

device_pod() { # NAME
  apply <<YAML
apiVersion: v1
kind: Pod
metadata: {name: $1, namespace: smoke}
spec:
  restartPolicy: Never
  securityContext: {runAsNonRoot: true, runAsUser: 4711, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: main
    image: $IMAGE
    command: [python3, -c, pass]
    resources: {limits: {nvidia.com/gpu: 4}}
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
YAML
  succeeds "$1" 60
}

kill_kubelet() {
  local pid
  read -r pid _ <"$QWENSFT_CLUSTER_DIR/run/kubelet.pid"
  kill -KILL "$pid"
}

# The node's status tells of the old kubelet's devices until the new one has written its own.
device_pod_again() { # NAME
  kubectl -n smoke delete pod "$1" --ignore-not-found >/dev/null
  device_pod "$1"
}

privileged_pod() {
  apply <<YAML
apiVersion: v1
kind: Pod
metadata: {name: root, namespace: smoke}
spec: {containers: [{name: main, image: $IMAGE, securityContext: {privileged: true}}]}
YAML
}

kill_components() {
  cat "$QWENSFT_CLUSTER_DIR"/run/*.pid | while read -r pid _; do kill -KILL "$pid"; done
}

# As after a power cut: no process is left, but mounts, namespaces, sockets and pid files are.
kill_all() {
  # Some end with others that were killed a moment before.
  find /sys/fs/cgroup -path "*/$CGROUP/*" -name cgroup.procs -exec cat {} + | sort -un | xargs -r kill -KILL || true
}

server_answers() {
  kubectl -n smoke delete pod "$1" --ignore-not-found >/dev/null
  client "$1"
}

never_restarted() { [ "$(kubectl -n smoke get pod "$1" -o 'jsonpath={.status.containerStatuses[0].restartCount}')" = 0 ]; }

unprivileged_components() {
  local user
  for user in coredns provisioner; do
    if kubectl --kubeconfig "$QWENSFT_CLUSTER_DIR/kubeconfig/$user.kubeconfig" auth can-i get secrets -A; then return 1; fi
  done
}

volume_directories() { find "$QWENSFT_CLUSTER_DIR/volumes" -mindepth 1 -maxdepth 1 | wc -l; }

no_volume_directories() { [ "$(volume_directories)" = 0 ]; }

# Starts this script again with a private network, and private copies of the few folders outside the
# state directory that Kubernetes, CNI and containerd write to whatever they are told.
isolate() {
  [ -z "${SMOKE_ISOLATED:-}" ] || return 0
  cluster build
  # shellcheck disable=SC2016
  SMOKE_ISOLATED=yes exec unshare --net --mount --propagation slave bash -c '
    ip link set lo up
    for dir in /run/containerd /run/netns /var/lib/kubelet /var/lib/cni /var/log/containers; do
      if [ -d $dir ]; then mount -t tmpfs tmpfs $dir; fi
    done
    exec "$0" "$@"
  ' "${BASH_SOURCE[0]}" "$@"
}

main() {
  [ "$(id -u)" = 0 ] || {
    echo "needs root" >&2
    exit 2
  }
  isolate "$@"
  # shellcheck disable=SC2064
  trap "cluster down --purge >/dev/null 2>&1 || true; buildah rmi '$IMAGE' >/dev/null 2>&1 || true; rm -rf '$WORK'" EXIT
  test_image >/dev/null 2>&1 || true
  machine_state >"$WORK/before"

  check "up within 60 s" within 60 cluster up
  eval "$(cluster env)"
  check "up again returns within 3 s" within 3 cluster up
  check "status says healthy" cluster status
  check "the node reports v1.37.2" bash -c 'kubectl get nodes -o wide | grep -q " v1.37.2 "'
  check "CoreDNS and the provisioner cannot read secrets" unprivileged_components
  check "build an image" test_image
  check "the image holds no settings of this machine" no_trace_of_machine
  check "load it" loads_with "layers were new"
  check "load it again: nothing to do" within 3 loads_with "already loaded"
  check "a namespace that enforces restricted" namespaces
  check "a privileged pod is refused there" fails privileged_pod
  check "claims RWO and RWX are bound" claims
  check "a non-root pod with fsGroup and read-only root writes to all volumes" writer one
  check "an image serves as a volume" image_volume
  check "a pod serves behind a headless and a virtual service" headless_service
  check "both names resolve and answer" client client-1
  check "a pod gets all four devices" device_pod devices
  kill_kubelet
  check "up repairs a killed kubelet" within 60 cluster up
  check "the device plugin has registered with the new one" eventually 60 device_pod_again devices
  check "rebuild the image's last layer" change_last_layer
  check "loading it adds one layer, within 5 s" within 5 loads_with ": 1 of"
  kubectl -n smoke delete pod writer >/dev/null
  check "a new pod sees the new layer" writer two

  kill_components
  check "status says unhealthy after kill -9" fails cluster status
  check "up repairs it within 60 s" within 60 cluster up
  check "the server pod went on" never_restarted server
  check "and still answers" server_answers client-2

  kill_all
  check "up recovers from losing every process, pods included" within 90 cluster up
  check "the server pod comes back" eventually 90 server_answers client-3
  check "the image is still loaded" loads_with "already loaded"

  kubectl delete namespace smoke --wait --timeout=90s >/dev/null || true
  check "deleted claims' directories are gone" eventually 20 no_volume_directories

  check "down within 30 s" within 30 cluster down
  check "down leaves nothing on the machine" same_as_before
  check "up once more: a new cluster" within 60 cluster up
  check "the image outlived it" loads_with "already loaded"
  check "no namespace outlived it" bash -c '! kubectl get namespace smoke'
  kill_all
  check "down after losing every process" cluster down --purge
  check "and still leaves nothing" same_as_before
  check "purge removes the state directory" test ! -e "$QWENSFT_CLUSTER_DIR"

  printf '%d passed, %d failed\n' $PASSED $FAILED
  [ $FAILED = 0 ]
}

main "$@"
