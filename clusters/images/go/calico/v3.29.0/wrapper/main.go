// Command wrapper runs the program that it is given. Later releases start kube-controllers through
// a wrapper of their own, which this one has not: the image is put together the same way for all.
package main

import (
	"fmt"
	"os"
	"syscall"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: wrapper PROGRAM [ARGUMENT...]")
		os.Exit(2)
	}
	err := syscall.Exec(os.Args[1], os.Args[1:], os.Environ())
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
