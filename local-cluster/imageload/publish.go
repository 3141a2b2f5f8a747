package main

// Writes an image to containerd: one snapshot per missing layer, then config, manifest and name.
// The layers' archives are never stored (as with containerd's own discard_unpacked_layers): the
// snapshots are all that pods need.

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const snapshotter = "overlayfs"

type image struct {
	name   string
	config []byte
	layers []layer
}

type layer struct {
	diffID digest.Digest
	size   int64
	fill   func(dir string) error
}

// publish returns how many layers it added, or -1 if the name already stands for this very image.
func publish(ctx context.Context, client *containerd.Client, img image) (int, error) {
	chain, err := chainIDs(img)
	if err != nil {
		return 0, err
	}
	manifest, err := manifestOf(img)
	if err != nil {
		return 0, err
	}
	target := descriptor(ocispec.MediaTypeImageManifest, manifest)

	existing, err := client.ImageService().Get(ctx, img.name)
	if err != nil && !errdefs.IsNotFound(err) {
		return 0, err
	}
	service := client.SnapshotService(snapshotter)
	config := descriptor(ocispec.MediaTypeImageConfig, img.config)
	if existing.Target.Digest == target.Digest {
		_, unnamed := client.ImageService().Get(ctx, config.Digest.String())
		_, missing := service.Stat(ctx, chain[len(chain)-1])
		if unnamed == nil && missing == nil {
			return -1, nil
		}
	}

	// The lease keeps the garbage collector away until the image's name refers to everything.
	ctx, done, err := client.WithLease(ctx)
	if err != nil {
		return 0, err
	}
	defer done(context.WithoutCancel(ctx))

	added, err := addLayers(ctx, service, img.layers, chain)
	if err != nil {
		return added, err
	}
	blobs := []struct {
		descriptor ocispec.Descriptor
		data       []byte
		labels     map[string]string
	}{
		{config, img.config, map[string]string{"containerd.io/gc.ref.snapshot." + snapshotter: chain[len(chain)-1]}},
		{target, manifest, map[string]string{"containerd.io/gc.ref.content.config": config.Digest.String()}},
	}
	for _, blob := range blobs {
		err := content.WriteBlob(ctx, client.ContentStore(), blob.descriptor.Digest.String(),
			bytes.NewReader(blob.data), blob.descriptor, content.WithLabels(blob.labels))
		if err != nil {
			return added, err
		}
	}
	// As the CRI plugin names the images it pulls: by digest of the config, too. Image volumes need that.
	for _, name := range []string{config.Digest.String(), img.name} {
		if err := setName(ctx, client.ImageService(), name, target); err != nil {
			return added, err
		}
	}
	if existing.Name == "" || existing.Target.Digest == target.Digest {
		return added, nil
	}
	return added, dropUnused(ctx, client.ImageService(), existing.Target)
}

func addLayers(ctx context.Context, service snapshots.Snapshotter, layers []layer, chain []string) (int, error) {
	added := 0
	parent := ""
	for i, l := range layers {
		if _, err := service.Stat(ctx, chain[i]); errdefs.IsNotFound(err) {
			if err := addSnapshot(ctx, service, l, parent, chain[i]); err != nil {
				return added, fmt.Errorf("layer %d (%s): %w", i+1, l.diffID, err)
			}
			added++
		} else if err != nil {
			return added, err
		}
		parent = chain[i]
	}
	return added, nil
}

func addSnapshot(ctx context.Context, service snapshots.Snapshotter, l layer, parent, name string) error {
	key := fmt.Sprintf("imageload-%d-%s", time.Now().UnixNano(), name)
	mounts, err := service.Prepare(ctx, key, parent)
	if err != nil {
		return err
	}
	dir, err := writableDir(mounts)
	if err == nil {
		err = l.fill(dir)
	}
	if err == nil {
		err = service.Commit(ctx, name, key)
	}
	if err != nil {
		_ = service.Remove(context.WithoutCancel(ctx), key)
		if errdefs.IsAlreadyExists(err) {
			return nil
		}
	}
	return err
}

// writableDir finds where an overlayfs snapshot keeps its own files: the bind source of a bottom
// layer, the upper directory of any other.
func writableDir(mounts []mount.Mount) (string, error) {
	if len(mounts) == 1 && mounts[0].Type == "bind" {
		return mounts[0].Source, nil
	}
	if len(mounts) == 1 && mounts[0].Type == "overlay" {
		for _, option := range mounts[0].Options {
			if dir, found := strings.CutPrefix(option, "upperdir="); found {
				return dir, nil
			}
		}
	}
	return "", fmt.Errorf("unexpected snapshot mounts %v", mounts)
}

func setName(ctx context.Context, service images.Store, name string, target ocispec.Descriptor) error {
	img := images.Image{Name: name, Target: target, Labels: map[string]string{"io.cri-containerd.image": "managed"}}
	_, err := service.Create(ctx, img)
	if errdefs.IsAlreadyExists(err) {
		_, err = service.Update(ctx, img)
	}
	return err
}

// dropUnused removes the by-digest name of an image that no other name stands for any more: nothing
// else would ever remove it.
func dropUnused(ctx context.Context, service images.Store, target ocispec.Descriptor) error {
	names, err := service.List(ctx, fmt.Sprintf("target.digest==%s", target.Digest))
	if err != nil {
		return err
	}
	if slices.ContainsFunc(names, func(i images.Image) bool { return !strings.HasPrefix(i.Name, "sha256:") }) {
		return nil
	}
	for _, name := range names {
		if err := service.Delete(ctx, name.Name); err != nil && !errdefs.IsNotFound(err) {
			return err
		}
	}
	return nil
}

// chainIDs names the snapshots, and checks that the layers are the ones the config lists.
func chainIDs(img image) ([]string, error) {
	var config ocispec.Image
	if err := json.Unmarshal(img.config, &config); err != nil {
		return nil, err
	}
	ids := make([]digest.Digest, len(img.layers))
	for i, l := range img.layers {
		ids[i] = l.diffID
	}
	if len(ids) == 0 || !slices.Equal(ids, config.RootFS.DiffIDs) {
		return nil, fmt.Errorf("%s: the stored layers %v are not those of its config %v", img.name, ids, config.RootFS.DiffIDs)
	}
	chain := make([]string, len(ids))
	for i := range ids {
		chain[i] = identity.ChainID(ids[:i+1]).String()
	}
	return chain, nil
}

func manifestOf(img image) ([]byte, error) {
	manifest := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    descriptor(ocispec.MediaTypeImageConfig, img.config),
	}
	for _, l := range img.layers {
		manifest.Layers = append(manifest.Layers, ocispec.Descriptor{
			MediaType: ocispec.MediaTypeImageLayer, Digest: l.diffID, Size: l.size,
		})
	}
	return json.Marshal(manifest)
}

func descriptor(mediaType string, data []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
}
