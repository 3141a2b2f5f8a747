package main

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"k8s.io/klog/v2"
	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

const (
	registerTimeout = 5 * time.Second
	retryAfter      = 2 * time.Second
)

// keepRegistered serves the devices in `dir`, where the kubelet listens, too, and registers them with each kubelet
// that comes up there, until the context ends. A kubelet that starts removes every socket in that directory before
// it makes its own, and knows nothing of its predecessor's plugins: so each of them gets a new socket of ours.
func keepRegistered(ctx context.Context, dir, resource string, service *devices) error {
	// The kubelet makes the directory as well; whoever of us comes first.
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return err
	}
	defer watcher.Close()
	if err := watcher.Add(dir); err != nil {
		return err
	}
	for ctx.Err() == nil {
		if err := serveOneKubelet(ctx, watcher, dir, resource, service); err != nil {
			return err
		}
	}
	return nil
}

// serveOneKubelet returns when another kubelet has come up or the context has ended.
func serveOneKubelet(ctx context.Context, watcher *fsnotify.Watcher, dir, resource string, service *devices) error {
	endpoint := strings.ReplaceAll(resource, "/", "-") + ".sock"
	listener, err := listen(filepath.Join(dir, endpoint))
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	pluginapi.RegisterDevicePluginServer(server, service)
	go server.Serve(listener)
	defer server.Stop() // removes the socket, too

	kubelet := filepath.Join(dir, filepath.Base(pluginapi.KubeletSocket))
	request := &pluginapi.RegisterRequest{Version: pluginapi.Version, Endpoint: endpoint, ResourceName: resource}
	again := time.After(0)
	for {
		select {
		case <-ctx.Done():
			return nil
		case event := <-watcher.Events:
			if event.Name == kubelet && event.Has(fsnotify.Create) {
				return nil
			}
		case err := <-watcher.Errors:
			return err
		case <-again:
			if err := register(ctx, kubelet, request); err != nil {
				klog.InfoS("Not registered yet", "resource", resource, "reason", err)
				again = time.After(retryAfter)
			} else {
				klog.InfoS("Registered", "resource", resource, "devices", len(service.list))
			}
		}
	}
}

func listen(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	return net.Listen("unix", path)
}

func register(ctx context.Context, kubelet string, request *pluginapi.RegisterRequest) error {
	connection, err := grpc.NewClient("unix://"+kubelet, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(ctx, registerTimeout)
	defer cancel()
	_, err = pluginapi.NewRegistrationClient(connection).Register(ctx, request)
	return err
}
