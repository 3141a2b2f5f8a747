package main

// Reads an image out of containers/storage (where buildah and podman keep theirs, overlay driver):
// its config and, for each layer, the directory that holds the layer's unpacked files.

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
)

type storedImage struct {
	ID    string   `json:"id"`
	Names []string `json:"names"`
	Layer string   `json:"layer"`
}

type storedLayer struct {
	ID       string        `json:"id"`
	Parent   string        `json:"parent"`
	DiffID   digest.Digest `json:"diff-digest"`
	DiffSize int64         `json:"diff-size"`
}

func readStorage(root, name string) (image, error) {
	stored, name, err := findImage(root, name)
	if err != nil {
		return image{}, err
	}
	key := "=" + base64.StdEncoding.EncodeToString([]byte("sha256:"+stored.ID))
	config, err := os.ReadFile(filepath.Join(root, "overlay-images", stored.ID, key))
	if err != nil {
		return image{}, fmt.Errorf("config of %s: %w", name, err)
	}
	layers, err := layerChain(root, stored.Layer)
	if err != nil {
		return image{}, fmt.Errorf("layers of %s: %w", name, err)
	}
	return image{name: name, config: config, layers: layers}, nil
}

// findImage accepts the spellings buildah accepts: without the localhost/ prefix, without a tag.
func findImage(root, name string) (storedImage, string, error) {
	var images []storedImage
	if err := readJSON(filepath.Join(root, "overlay-images", "images.json"), &images); err != nil {
		return storedImage{}, "", err
	}
	if !strings.Contains(name[strings.LastIndex(name, "/")+1:], ":") {
		name += ":latest"
	}
	for _, candidate := range []string{name, "localhost/" + name} {
		for _, stored := range images {
			if slices.Contains(stored.Names, candidate) {
				return stored, candidate, nil
			}
		}
	}
	return storedImage{}, "", fmt.Errorf("buildah has no image %s", name)
}

// layerChain lists the layers from the base upwards.
func layerChain(root, top string) ([]layer, error) {
	var stored []storedLayer
	if err := readJSON(filepath.Join(root, "overlay-layers", "layers.json"), &stored); err != nil {
		return nil, err
	}
	byID := make(map[string]storedLayer, len(stored))
	for _, l := range stored {
		byID[l.ID] = l
	}
	var chain []layer
	for id := top; id != ""; id = byID[id].Parent {
		l, found := byID[id]
		if !found || l.DiffID == "" {
			return nil, fmt.Errorf("layer %s is missing or unfinished", id)
		}
		dir := filepath.Join(root, "overlay", id, "diff")
		chain = append(chain, layer{
			diffID: l.DiffID,
			size:   l.DiffSize,
			fill:   func(target string) error { return linkTree(dir, target) },
		})
	}
	slices.Reverse(chain)
	return chain, nil
}

func readJSON(path string, into any) error {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("no buildah storage with the overlay driver here: %w", err)
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(data, into)
}
