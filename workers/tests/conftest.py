from backend_helpers import backend_for, folder, go, name_of_backend

__all__ = ["backend_for", "folder", "go", "name_of_backend"]
