module dualstack.example/build/pause

go 1.24
