# shellcheck shell=bash
# The components' configuration files. Everything listens on the node's own bridge address or on
# 127.0.0.1, never on the machine's outside interfaces.

write_config() {
  mkdir -p "$CONFIG/cni" "$STATE/volumes" "$STATE/kubelet" "$STATE/containerd"
  config_containerd
  config_cni
  config_kubelet
  config_proxy
  config_coredns
}

# restrict_oom_score_adj: without CAP_SYS_RESOURCE (nested machines) no sandbox would start otherwise.
# netns_mounts_under_state_dir: so that cleaning up finds all of them in one place.
config_containerd() {
  cat >"$CONFIG/containerd.toml" <<TOML
version = 3
root = "$STATE/containerd"
state = "$RUN/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.blockfile", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.erofs", "io.containerd.snapshotter.v1.zfs", "io.containerd.nri.v1.nri"]
[grpc]
  address = "$CONTAINERD_SOCKET"
[ttrpc]
  address = "$CONTAINERD_SOCKET.ttrpc"
[plugins.'io.containerd.cri.v1.images']
  snapshotter = "overlayfs"
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = "$PAUSE_IMAGE"
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      Root = "$RUN/runc"
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["$CNI_DIR"]
    conf_dir = "$CONFIG/cni"
TOML
}

# Masquerading is one static rule (see up.sh), not one chain per pod: nothing goes stale.
config_cni() {
  # Written aside first: containerd reads it again as soon as it changes.
  cat >"$CONFIG/pods.conflist" <<JSON
{
  "cniVersion": "1.0.0",
  "name": "$POD_NETWORK",
  "plugins": [
    {
      "type": "bridge", "bridge": "$POD_BRIDGE", "isGateway": true, "hairpinMode": true,
      "ipam": {
        "type": "host-local", "dataDir": "$RUN/cni-addresses",
        "ranges": [[{"subnet": "$POD_CIDR"}]], "routes": [{"dst": "0.0.0.0/0"}]
      }
    },
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
JSON
  cmp -s "$CONFIG/pods.conflist" "$CONFIG/cni/10-pods.conflist" || mv "$CONFIG/pods.conflist" "$CONFIG/cni/10-pods.conflist"
}

config_kubelet() {
  local resolv=/etc/resolv.conf
  # systemd-resolved's stub listens on the host's loopback, which pods cannot reach.
  [ ! -e /run/systemd/resolve/resolv.conf ] || resolv=/run/systemd/resolve/resolv.conf
  cat >"$CONFIG/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $NODE_IP
readOnlyPort: 0
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $PKI/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $PKI/kubelet.crt
tlsPrivateKeyFile: $PKI/kubelet.key
containerRuntimeEndpoint: unix://$CONTAINERD_SOCKET
cgroupDriver: cgroupfs
cgroupRoot: /$(cgroup_name)
failCgroupV1: false
failSwapOn: false
clusterDNS: [$NODE_IP]
clusterDomain: cluster.local
resolvConf: $resolv
maxPods: 250
podLogsDir: $LOG/pods
volumePluginDir: $STATE/kubelet/volume-plugins
# Images come from load-image only: collecting unused ones would lose them.
imageGCHighThresholdPercent: 100
evictionHard: {nodefs.available: "1%", imagefs.available: "1%", memory.available: "100Mi"}
shutdownGracePeriod: 0s
YAML
}

# The zeros leave the machine's conntrack settings alone.
config_proxy() {
  cat >"$CONFIG/kube-proxy.yaml" <<YAML
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: $KUBECONFIGS/proxy.kubeconfig}
hostnameOverride: $NODE_NAME
bindAddress: $NODE_IP
healthzBindAddress: 127.0.0.1:10256
metricsBindAddress: 127.0.0.1:10249
clusterCIDR: $POD_CIDR
nodePortAddresses: ["$NODE_IP/32"]
mode: iptables
iptables: {localhostNodePorts: false}
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
YAML
}

config_coredns() {
  cat >"$CONFIG/Corefile" <<COREFILE
.:53 {
  bind $NODE_IP
  errors
  ready $NODE_IP:8181
  kubernetes cluster.local in-addr.arpa ip6.arpa {
    kubeconfig $KUBECONFIGS/coredns.kubeconfig
    pods insecure
    ttl 2
  }
  forward . /etc/resolv.conf
  cache 5
}
COREFILE
}

# Parallel arrays would be harder to read than one case: NAME -> start NAME COMMAND...
start_component() {
  case $1 in
    etcd)
      start etcd "$BIN/etcd" --name "$NODE_NAME" --data-dir "$STATE/etcd" --unsafe-no-fsync --log-level warn \
        --listen-client-urls "https://$NODE_IP:2379" --advertise-client-urls "https://$NODE_IP:2379" \
        --listen-peer-urls "https://$NODE_IP:2380" --initial-advertise-peer-urls "https://$NODE_IP:2380" \
        --initial-cluster "$NODE_NAME=https://$NODE_IP:2380" --auto-compaction-retention 5m \
        --cert-file "$PKI/etcd.crt" --key-file "$PKI/etcd.key" --trusted-ca-file "$PKI/etcd-ca.crt" --client-cert-auth \
        --peer-cert-file "$PKI/etcd.crt" --peer-key-file "$PKI/etcd.key" --peer-trusted-ca-file "$PKI/etcd-ca.crt" --peer-client-cert-auth
      ;;
    containerd) start containerd "$BIN/containerd" --config "$CONFIG/containerd.toml" --log-level warn ;;
    kube-apiserver)
      start kube-apiserver "$BIN/kube-apiserver" --bind-address "$NODE_IP" --advertise-address "$NODE_IP" \
        --etcd-servers "https://$NODE_IP:2379" --etcd-cafile "$PKI/etcd-ca.crt" --etcd-certfile "$PKI/etcd.crt" --etcd-keyfile "$PKI/etcd.key" \
        --service-cluster-ip-range "$SERVICE_CIDR" --allow-privileged --authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction \
        --client-ca-file "$PKI/ca.crt" --tls-cert-file "$PKI/apiserver.crt" --tls-private-key-file "$PKI/apiserver.key" \
        --kubelet-client-certificate "$PKI/apiserver-kubelet.crt" --kubelet-client-key "$PKI/apiserver-kubelet.key" \
        --kubelet-certificate-authority "$PKI/ca.crt" --kubelet-preferred-address-types InternalIP \
        --requestheader-client-ca-file "$PKI/front-proxy-ca.crt" --requestheader-allowed-names front-proxy \
        --requestheader-username-headers X-Remote-User --requestheader-group-headers X-Remote-Group \
        --requestheader-extra-headers-prefix X-Remote-Extra- \
        --proxy-client-cert-file "$PKI/front-proxy.crt" --proxy-client-key-file "$PKI/front-proxy.key" \
        --service-account-key-file "$PKI/service-account.pub" --service-account-signing-key-file "$PKI/service-account.key" \
        --service-account-issuer https://kubernetes.default.svc.cluster.local --shutdown-delay-duration 0s
      ;;
    kube-controller-manager)
      start kube-controller-manager "$BIN/kube-controller-manager" --kubeconfig "$KUBECONFIGS/controller-manager.kubeconfig" \
        --bind-address 127.0.0.1 --leader-elect=false --use-service-account-credentials \
        --service-account-private-key-file "$PKI/service-account.key" --root-ca-file "$PKI/ca.crt" \
        --flex-volume-plugin-dir "$STATE/kubelet/volume-plugins" --cluster-signing-cert-file "$PKI/ca.crt" --cluster-signing-key-file "$PKI/ca.key"
      ;;
    kube-scheduler)
      start kube-scheduler "$BIN/kube-scheduler" --kubeconfig "$KUBECONFIGS/scheduler.kubeconfig" --bind-address 127.0.0.1 --leader-elect=false
      ;;
    kubelet)
      start kubelet "$BIN/kubelet" --config "$CONFIG/kubelet.yaml" --kubeconfig "$KUBECONFIGS/kubelet.kubeconfig" \
        --hostname-override "$NODE_NAME" --node-ip "$NODE_IP" --root-dir "$STATE/kubelet" --cert-dir "$STATE/kubelet/pki"
      ;;
    kube-proxy) start kube-proxy "$BIN/kube-proxy" --config "$CONFIG/kube-proxy.yaml" ;;
    coredns) start coredns "$BIN/coredns" -conf "$CONFIG/Corefile" ;;
    provisioner)
      start provisioner "$BIN/provisioner" --kubeconfig "$KUBECONFIGS/provisioner.kubeconfig" --node "$NODE_NAME" --root "$STATE/volumes"
      ;;
    deviceplugin) start deviceplugin "$BIN/deviceplugin" --resource "$DEVICE_RESOURCE" --count "$DEVICE_COUNT" ;;
  esac
}
