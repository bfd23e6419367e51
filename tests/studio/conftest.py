from tiny_model import quick_compiles

__all__ = ["quick_compiles"]
