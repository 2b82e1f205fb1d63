// Package archtest holds the code to its design: which package may import which, who owns a
// library, and the house rules that a machine can check. It reads sources and runs none.
//
// There is nothing in it but tests; a law that has to give way gets an exception with its
// reason there, not silence.
package archtest
