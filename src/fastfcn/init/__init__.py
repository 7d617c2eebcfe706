"""What `fastfcn init` drafts: classes, splits and a recipe for somebody's own images, with the reasons."""
