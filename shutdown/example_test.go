// SPDX-License-Identifier: Apache-2.0

package shutdown_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/abot-trace/abot-trace/shutdown"
)

// A program that works until SIGTERM comes and then cleans up.
func Example() {
	g, err := shutdown.New(context.Background(), shutdown.Options{Grace: 5 * time.Second})
	if err != nil {
		log.Fatal(err)
	}
	g.Defer("database", func(context.Context) error {
		fmt.Println("database closed")
		return nil
	})
	g.Defer("queue", func(context.Context) error {
		fmt.Println("queue drained")
		return nil
	})

	// Somebody sends the signal; here it is the program itself.
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		log.Fatal(err)
	}
	<-g.Context().Done()
	fmt.Println(context.Cause(g.Context()))
	if err := g.Close(); err != nil {
		log.Print(err)
	}
	fmt.Println("exit code", g.ExitCode())
	// Output:
	// received SIGTERM
	// queue drained
	// database closed
	// exit code 143
}

// A child ends with its descendants: here a shell with a worker that has left
// its session.
func ExampleGroup_Start() {
	g, err := shutdown.New(context.Background(), shutdown.Options{})
	if err != nil {
		log.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", "setsid sleep 60 & exec sleep 60")
	if err := g.Start(cmd); err != nil {
		log.Fatal(err)
	}
	fmt.Println("closed:", g.Close())
	fmt.Println("child:", cmd.Wait())
	// Output:
	// closed: <nil>
	// child: signal: terminated
}

// What goes wrong in a callback is in Close's error and stops no other callback.
func ExampleGroup_Defer() {
	g, err := shutdown.New(context.Background(), shutdown.Options{})
	if err != nil {
		log.Fatal(err)
	}
	g.Defer("last", func(context.Context) error {
		fmt.Println("last still runs")
		return nil
	})
	g.Defer("buggy", func(context.Context) error { panic("out of cheese") })

	err = g.Close()
	fmt.Println(err)
	var p *shutdown.PanicError
	fmt.Println(errors.As(err, &p))
	// Output:
	// last still runs
	// callback buggy: panic: out of cheese
	// true
}
