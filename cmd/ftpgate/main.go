// Command ftpgate makes FTP servers reachable through a Linux gateway that translates addresses.
package main

import (
	"os"

	"ftpgate/internal/cli"
)

func main() {
	os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
