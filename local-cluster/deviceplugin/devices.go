package main

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

// devices is the service that the kubelet calls: it lists the devices and hands them out.
type devices struct {
	pluginapi.UnimplementedDevicePluginServer
	list  []*pluginapi.Device
	known map[string]bool
}

func newDevices(count int) *devices {
	d := &devices{known: map[string]bool{}}
	for i := range count {
		id := fmt.Sprintf("device-%d", i)
		d.list = append(d.list, &pluginapi.Device{ID: id, Health: pluginapi.Healthy})
		d.known[id] = true
	}
	return d
}

// GetDevicePluginOptions says that the kubelet need neither ask for a preference nor announce a container's start.
func (d *devices) GetDevicePluginOptions(context.Context, *pluginapi.Empty) (*pluginapi.DevicePluginOptions, error) {
	return &pluginapi.DevicePluginOptions{}, nil
}

// ListAndWatch sends the devices once, as they never fail, and keeps the stream: its end would mean that they are gone.
func (d *devices) ListAndWatch(_ *pluginapi.Empty, stream grpc.ServerStreamingServer[pluginapi.ListAndWatchResponse]) error {
	if err := stream.Send(&pluginapi.ListAndWatchResponse{Devices: d.list}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

// Allocate answers for each container with nothing to mount and nothing to set: there is no device to reach.
func (d *devices) Allocate(_ context.Context, request *pluginapi.AllocateRequest) (*pluginapi.AllocateResponse, error) {
	response := &pluginapi.AllocateResponse{}
	for _, container := range request.ContainerRequests {
		for _, id := range container.DevicesIds {
			if !d.known[id] {
				return nil, status.Errorf(codes.NotFound, "there is no device %q", id)
			}
		}
		response.ContainerResponses = append(response.ContainerResponses, &pluginapi.ContainerAllocateResponse{})
	}
	return response, nil
}
