// Streams, cancels, lets deadlines pass and sends bad requests with grpc-go: foreign ADDRESS
// Prints a line per scenario; exit code 1 at the first that goes wrong. test_go.py generates the package inference first.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	pb "ebbinghaus.test/foreign/inference"
)

const (
	named      = 16
	faults     = 1000
	vocabulary = 300 // the tiny model's
	patience   = time.Minute
)

type scenario struct {
	name string
	run  func(context.Context, pb.InferenceServiceClient) error
}

func text(prompt string, tokens uint32) *pb.GenerateRequest {
	return &pb.GenerateRequest{
		Input:        &pb.GenerateRequest_Text{Text: prompt},
		MaxNewTokens: proto.Uint32(tokens),
		IgnoreEos:    proto.Bool(true),
	}
}

// stream reads a call to its end. onEvent may cancel the call's context.
func stream(ctx context.Context, client pb.InferenceServiceClient, request *pb.GenerateRequest,
	onEvent func(*pb.GenerateResponse)) error {
	call, err := client.Generate(ctx, request)
	for err == nil {
		var event *pb.GenerateResponse
		if event, err = call.Recv(); err == nil {
			onEvent(event)
		}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func untilIdle(ctx context.Context, client pb.InferenceServiceClient) error {
	for {
		now, err := client.GetServerStatus(ctx, &pb.GetServerStatusRequest{})
		if err != nil {
			return err
		}
		if now.RequestsRunning == 0 && now.RequestsQueued == 0 && now.KvUsedBytes == 0 {
			return nil
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func eventsInOrder(ctx context.Context, client pb.InferenceServiceClient) error {
	var order strings.Builder
	err := stream(ctx, client, text("some words", 20), func(event *pb.GenerateResponse) {
		switch event.Event.(type) {
		case *pb.GenerateResponse_Started:
			order.WriteByte('s')
		case *pb.GenerateResponse_Token:
			order.WriteByte('t')
		case *pb.GenerateResponse_Finished:
			order.WriteByte('f')
		}
	})
	if want := "s" + strings.Repeat("t", 20) + "f"; err == nil && order.String() != want {
		return fmt.Errorf("events %s, not %s", order.String(), want)
	}
	return err
}

func unary(ctx context.Context, client pb.InferenceServiceClient) error {
	const words = "some words \u4e2d"
	ids, err := client.Tokenize(ctx, &pb.TokenizeRequest{Input: &pb.TokenizeRequest_Text{Text: words}})
	if err != nil {
		return err
	}
	back, err := client.Detokenize(ctx, &pb.DetokenizeRequest{Ids: ids.Ids})
	if err == nil && back.Text != words {
		return fmt.Errorf("%q came back as %q", words, back.Text)
	}
	return err
}

func cancelling(ctx context.Context, client pb.InferenceServiceClient) error {
	call, cancel := context.WithCancel(ctx)
	defer cancel()
	err := stream(call, client, text("go on", 6000), func(event *pb.GenerateResponse) {
		if event.GetToken() != nil {
			cancel()
		}
	})
	if status.Code(err) != codes.Canceled {
		return fmt.Errorf("ended as %v", err)
	}
	return untilIdle(ctx, client)
}

func deadline(ctx context.Context, client pb.InferenceServiceClient) error {
	call, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	err := stream(call, client, text("go on", 6000), func(*pb.GenerateResponse) {})
	if status.Code(err) != codes.DeadlineExceeded {
		return fmt.Errorf("ended as %v", err)
	}
	return untilIdle(ctx, client)
}

func checkFaults(err error, end string) error {
	answer := status.Convert(err)
	if answer.Code() != codes.InvalidArgument {
		return fmt.Errorf("ended as %v", err)
	}
	if len(answer.Message()) > 4096 || !strings.HasSuffix(answer.Message(), end) {
		return fmt.Errorf("says %q", answer.Message())
	}
	for _, detail := range answer.Details() {
		if bad, ok := detail.(*errdetails.BadRequest); ok && len(bad.FieldViolations) > 0 {
			return nil
		}
	}
	return fmt.Errorf("details are %v", answer.Details())
}

func thousandFaults(ctx context.Context, client pb.InferenceServiceClient) error {
	beyond, biases := make([]uint32, faults), map[uint32]float64{}
	for i := range beyond {
		beyond[i] = uint32(vocabulary + i)
		biases[beyond[i]] = 1
	}
	stops, bias := text("x", 5), text("x", 5)
	stops.StopTokenIds = beyond
	bias.Sampling = &pb.SamplingParameters{LogitBias: biases}
	ids := &pb.GenerateRequest{Input: &pb.GenerateRequest_TokenIds{TokenIds: &pb.TokenIds{Ids: beyond}}}
	ranges := text("x", 5)
	ranges.GenerationMode = pb.GenerationMode_GENERATION_MODE_SPARSE_ATTENTION.Enum()
	ranges.Memory = &pb.MemoryParameters{}
	for range beyond {
		ranges.Memory.Pinned = append(ranges.Memory.Pinned, &pb.TokenRange{Begin: proto.Uint32(0)}) // and no end
	}
	listed := fmt.Sprintf(", nor are %d more", faults-1)
	for request, end := range map[*pb.GenerateRequest]string{
		ranges: fmt.Sprintf("; and %d more violations", faults-named), stops: listed, bias: listed, ids: listed,
	} {
		_, err := client.Complete(ctx, request)
		if err := checkFaults(err, end); err != nil {
			return err
		}
		if err := checkFaults(stream(ctx, client, request, func(*pb.GenerateResponse) {}), end); err != nil {
			return err
		}
	}
	return nil
}

func run(address string) error {
	channel, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer channel.Close()
	client := pb.NewInferenceServiceClient(channel)
	for _, each := range []scenario{
		{"a stream has its events in order", eventsInOrder},
		{"a unary call answers", unary},
		{"cancelling frees the sequence", cancelling},
		{"a deadline ends the call", deadline},
		{"a thousand bad fields", thousandFaults},
	} {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		err := each.run(ctx, client)
		cancel()
		if err != nil {
			return fmt.Errorf("%s: %w", each.name, err)
		}
		fmt.Println("ok " + each.name)
	}
	return nil
}

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Println("FAILED " + err.Error())
		os.Exit(1)
	}
}
