"""What a run is asked to do: the fields of a config, how it is read, and the settings that a trainer takes."""
