// The device plugin: offers devices that only exist as numbers, so that a pod which asks for accelerators
// is scheduled, gets its share of the count and starts, on a machine that has none. To the kubelet it is a
// device plugin like any other; it runs as a host process and has no image.
package main

import (
	"context"
	"errors"
	"flag"
	"os/signal"
	"syscall"

	"k8s.io/klog/v2"
	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

func main() {
	resource := flag.String("resource", "nvidia.com/gpu", "name of the extended resource")
	count := flag.Int("count", 4, "number of devices")
	klog.InitFlags(nil)
	flag.Parse()
	if err := run(*resource, *count); err != nil {
		klog.ErrorS(err, "Device plugin failed")
		klog.FlushAndExit(klog.ExitFlushTimeout, 1)
	}
}

func run(resource string, count int) error {
	if resource == "" || count < 1 {
		return errors.New("--resource and a --count of at least 1 are required")
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	return keepRegistered(ctx, pluginapi.DevicePluginPath, resource, newDevices(count))
}
