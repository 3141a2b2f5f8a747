// imageload puts images into containerd without a registry, an archive or a copy of the layers.
//
//	imageload -address SOCKET load  NAME    an image that buildah built on this machine
//	imageload -address SOCKET pause BINARY  the pod sandbox's image, made of one static binary
//
// storage.go reads buildah's storage, publish.go writes to containerd, link.go fills the snapshots.
package main

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const pauseName = "localhost/qwensft/pause:1"

func main() {
	address := flag.String("address", "", "containerd's socket")
	storage := flag.String("storage", "/var/lib/containers/storage", "buildah's storage (overlay driver)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *address, *storage, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "imageload:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, address, storage string, args []string) error {
	if address == "" || len(args) != 2 {
		return fmt.Errorf("usage: imageload -address SOCKET load NAME | pause BINARY")
	}
	var img image
	var err error
	switch args[0] {
	case "load":
		img, err = readStorage(storage, args[1])
	case "pause":
		img, err = pauseImage(args[1])
	default:
		err = fmt.Errorf("unknown command %q", args[0])
	}
	if err != nil {
		return err
	}
	client, err := containerd.New(address)
	if err != nil {
		return err
	}
	defer client.Close()
	added, err := publish(namespaces.WithNamespace(ctx, "k8s.io"), client, img)
	if err != nil {
		return err
	}
	if added < 0 {
		fmt.Printf("%s is already loaded\n", img.name)
	} else {
		fmt.Printf("%s loaded: %d of %d layers were new\n", img.name, added, len(img.layers))
	}
	return nil
}

// pauseImage wraps the static binary in a one-layer image with a reproducible digest.
func pauseImage(binary string) (image, error) {
	data, err := os.ReadFile(binary)
	if err != nil {
		return image{}, err
	}
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	if err := w.WriteHeader(&tar.Header{Name: "pause", Mode: 0o755, Size: int64(len(data)), Typeflag: tar.TypeReg}); err != nil {
		return image{}, err
	}
	if _, err := w.Write(data); err != nil {
		return image{}, err
	}
	if err := w.Close(); err != nil {
		return image{}, err
	}
	diffID := digest.FromBytes(archive.Bytes())
	config, err := json.Marshal(ocispec.Image{
		Platform: ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH},
		Config:   ocispec.ImageConfig{Entrypoint: []string{"/pause"}, User: "65535:65535"},
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{diffID}},
	})
	if err != nil {
		return image{}, err
	}
	return image{name: pauseName, config: config, layers: []layer{{
		diffID: diffID,
		size:   int64(archive.Len()),
		fill: func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "pause"), data, 0o755)
		},
	}}}, nil
}
