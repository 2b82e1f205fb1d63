package lab

// Open returns the lab that root's Up made.
var Open = openRoot
