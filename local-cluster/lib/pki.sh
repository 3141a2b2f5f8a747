# shellcheck shell=bash
# Certificates and kubeconfigs. Each component has its own identity and no more rights than it needs;
# only the administrator's kubeconfig is all-powerful. etcd has a CA of its own, so that no cluster
# credential opens it, and so have the servers of further APIs, so that none passes for the API server.

make_pki() {
  [ ! -e "$PKI/.complete" ] || return 0
  rm -rf "$PKI" "$KUBECONFIGS"
  mkdir "$PKI" "$KUBECONFIGS"
  chmod 700 "$PKI" "$KUBECONFIGS"
  make_ca ca qwensft-local-cluster
  make_ca etcd-ca qwensft-local-etcd
  issue etcd etcd-ca /CN=etcd "IP:$NODE_IP,IP:127.0.0.1"
  issue apiserver ca /CN=kube-apiserver "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local,DNS:localhost,IP:127.0.0.1,IP:$NODE_IP,IP:$SERVICE_IP"
  issue apiserver-kubelet ca /CN=qwensft:apiserver-kubelet-client
  issue kubelet ca "/O=system:nodes/CN=system:node:$NODE_NAME" "DNS:$NODE_NAME,IP:$NODE_IP"
  issue admin ca /O=system:masters/CN=admin
  issue controller-manager ca /CN=system:kube-controller-manager
  issue scheduler ca /CN=system:kube-scheduler
  issue proxy ca /CN=system:kube-proxy
  issue coredns ca /CN=qwensft:coredns
  issue provisioner ca /CN=qwensft:provisioner
  openssl genrsa -out "$PKI/service-account.key" 2048 2>/dev/null
  openssl rsa -in "$PKI/service-account.key" -pubout -out "$PKI/service-account.pub" 2>/dev/null
  local user
  for user in admin controller-manager scheduler kubelet proxy coredns provisioner; do
    make_kubeconfig $user
  done
  touch "$PKI/.complete"
}

# How the API server proves itself to servers of further APIs (APIServices), which then believe who it says is asking.
# Apart from the others: clusters that were made before have no such certificate.
make_front_proxy() {
  [ ! -e "$PKI/front-proxy.crt" ] || return 0
  make_ca front-proxy-ca qwensft-local-front-proxy
  issue front-proxy front-proxy-ca /CN=front-proxy
}

make_ca() { # NAME COMMON_NAME
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj "/CN=$2" \
    -keyout "$PKI/$1.key" -out "$PKI/$1.crt" 2>/dev/null
}

issue() { # NAME CA SUBJECT [SUBJECT_ALT_NAMES]
  local base=$PKI/$1
  {
    printf 'keyUsage=digitalSignature\nextendedKeyUsage=clientAuth%s\n' "${4:+,serverAuth}"
    [ -z "${4:-}" ] || printf 'subjectAltName=%s\n' "$4"
  } >"$base.ext"
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "$3" -keyout "$base.key" -out "$base.csr" 2>/dev/null
  openssl x509 -req -in "$base.csr" -CA "$PKI/$2.crt" -CAkey "$PKI/$2.key" -CAcreateserial -days 3650 \
    -extfile "$base.ext" -out "$base.crt" 2>/dev/null
  rm "$base.csr" "$base.ext"
}

# Certificates are embedded: the file can be copied elsewhere and still works.
make_kubeconfig() { # USER
  (
    umask 077
    cat >"$KUBECONFIGS/$1.kubeconfig" <<YAML
apiVersion: v1
kind: Config
current-context: qwensft-local
contexts:
- name: qwensft-local
  context: {cluster: qwensft-local, user: $1}
clusters:
- name: qwensft-local
  cluster:
    server: https://$NODE_IP:6443
    certificate-authority-data: $(base64 -w0 "$PKI/ca.crt")
users:
- name: $1
  user:
    client-certificate-data: $(base64 -w0 "$PKI/$1.crt")
    client-key-data: $(base64 -w0 "$PKI/$1.key")
YAML
  )
}
