// The volume provisioner: a directory on this host for each claim, published as a `local`
// PersistentVolume bound to this node. `local` rather than `hostPath`, because the kubelet applies a
// pod's fsGroup to the former only. It runs as a host process and has no image.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

const provisionerName = "qwensft.io/local-directory"

func main() {
	kubeconfig := flag.String("kubeconfig", "", "credentials for the API server")
	node := flag.String("node", "", "name of the node that runs on this host")
	root := flag.String("root", "", "absolute directory that holds the volumes")
	klog.InitFlags(nil)
	flag.Parse()
	if err := run(*kubeconfig, *node, *root); err != nil {
		klog.ErrorS(err, "Provisioner failed")
		klog.FlushAndExit(klog.ExitFlushTimeout, 1)
	}
}

func run(kubeconfig, node, root string) error {
	if node == "" || !filepath.IsAbs(root) {
		return errors.New("--node and an absolute --root are required")
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	provisioner := &directoryProvisioner{node: node, root: filepath.Clean(root)}
	volumes := controller.NewProvisionController(ctx, client, provisionerName, provisioner,
		controller.LeaderElection(false),
		controller.AddFinalizer(true),
		controller.Threadiness(2))
	volumes.Run(ctx)
	return nil
}

type directoryProvisioner struct {
	node string
	root string
}

// Provision makes the claim's directory. Capacity is not enforced: it is the host's file system.
func (p *directoryProvisioner) Provision(_ context.Context, options controller.ProvisionOptions) (*corev1.PersistentVolume, controller.ProvisioningState, error) {
	claim := options.PVC
	if claim.Spec.Selector != nil {
		return nil, controller.ProvisioningFinished, errors.New("claim selectors are not supported")
	}
	path := filepath.Join(p.root, fmt.Sprintf("%s_%s_%s", options.PVName, claim.Namespace, claim.Name))
	if err := os.MkdirAll(path, 0o777); err != nil {
		return nil, controller.ProvisioningFinished, err
	}
	// Past the umask: pods that set no fsGroup and run as any user must be able to write, too.
	if err := os.Chmod(path, 0o777); err != nil {
		return nil, controller.ProvisioningFinished, err
	}
	volume := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: options.PVName},
		Spec: corev1.PersistentVolumeSpec{
			PersistentVolumeReclaimPolicy: *options.StorageClass.ReclaimPolicy,
			AccessModes:                   claim.Spec.AccessModes,
			VolumeMode:                    claim.Spec.VolumeMode,
			Capacity:                      corev1.ResourceList{corev1.ResourceStorage: claim.Spec.Resources.Requests[corev1.ResourceStorage]},
			PersistentVolumeSource:        corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: path}},
			NodeAffinity:                  onlyOn(p.node),
		},
	}
	return volume, controller.ProvisioningFinished, nil
}

// Delete removes the directory, and only one that Provision could have made.
func (p *directoryProvisioner) Delete(_ context.Context, volume *corev1.PersistentVolume) error {
	if volume.Spec.Local == nil || filepath.Dir(filepath.Clean(volume.Spec.Local.Path)) != p.root {
		return &controller.IgnoredError{Reason: "its directory is not in " + p.root}
	}
	return os.RemoveAll(volume.Spec.Local.Path)
}

func onlyOn(node string) *corev1.VolumeNodeAffinity {
	return &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{
		NodeSelectorTerms: []corev1.NodeSelectorTerm{{
			MatchExpressions: []corev1.NodeSelectorRequirement{{
				Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{node},
			}},
		}},
	}}
}
