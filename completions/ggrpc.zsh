#compdef ggrpc

_ggrpc_completion() {
  eval $(env _TYPER_COMPLETE_ARGS="${words[1,$CURRENT]}" _GGRPC_COMPLETE=complete_zsh ggrpc)
}

compdef _ggrpc_completion ggrpc
[[ $funcstack[1] != _ggrpc ]] || _ggrpc_completion "$@"
