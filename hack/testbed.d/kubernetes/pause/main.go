// Command pause is the sandbox image of the test bed: it waits for a signal and does nothing else.
//
// `pause say WORDS…` prints the words first, `pause echo WORDS…` prints them and ends: enough for a test of the bed
// itself to look at logs and to execute something in a container.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

func main() {
	if len(os.Args) > 1 {
		fmt.Println(strings.Join(os.Args[2:], " "))
		if os.Args[1] == "echo" {
			return
		}
	}
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGINT, syscall.SIGTERM)
	<-end
}
