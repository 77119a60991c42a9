"""Functions that only compiled functions call: they are optimized and become machine code as a part of
these. Numba would do so with each of them before, which takes a third of the time to compile a kernel.
"""

from numba._dynfunc import make_function
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import register_pass
from numba.core.typed_passes import NativeLowering


class Library(JITCodeLibrary):
    """Of code that is linked into other code."""

    def finalize(self):
        for library in dict.fromkeys(self._linking_libraries):
            self._reload_init.update(library._reload_init)
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._finalize_dynamic_globals()
        self._finalized = True


@register_pass(mutates_CFG=True, analysis_only=False)
class Lowering(NativeLowering):
    """To LLVM's instructions, and no further."""

    _name = "lowering of a part"

    def run_pass(self, state):
        context, name = state.targetctx, state.func_id.func_qualname
        state.library = Library(context.codegen(), name)
        state.flags.no_compile = True
        super().run_pass(state)
        state.library.finalize()
        made = state["cr"]
        # Numba knows a function by an object of Python, though nobody calls it.
        key = make_function(made.fndesc.lookup_module(), name, "", 0, made.env, (state.library,))
        context.insert_user_function(key, made.fndesc, [state.library])
        state["cr"] = made._replace(cfunc=key)
        return True


class Compiler(CompilerBase):
    def define_pipelines(self):
        usual = DefaultPassBuilder.define_nopython_pipeline(self.state)
        usual.passes = [(Lowering if p is NativeLowering else p, why) for p, why in usual.passes]
        usual._finalized = False
        usual.finalize()
        return [usual]
