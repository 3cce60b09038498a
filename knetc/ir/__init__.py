"""The intermediate representation: nodes, graphs, types, recording, printing, checking, interpreting."""
