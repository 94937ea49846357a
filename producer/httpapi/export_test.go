package httpapi

// LocalPath is where a browser goes on to after logging in.
var LocalPath = localPath
